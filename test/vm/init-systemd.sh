#!/bin/sh
# The same guest with systemd as its first process: the host's root under an overlay on the scratch disk, so that packages can be
# installed and units enabled as on a machine of its own, and are still there after a reboot of the guest.
root=/run/root
mkdir -p $root
insmod "$(word overlay)"
mkdir -p /run/scratch/upper /run/scratch/work
mount -t overlay overlay -o lowerdir=/,upperdir=/run/scratch/upper,workdir=/run/scratch/work $root || exit 1
mount -t tmpfs -o mode=755 run $root/run
mkdir -p $root/run/project $root/run/job $root/run/scratch $root/run/mnt
mount --bind "$(word project)" $root/run/project
mount -t hostfs none $root/run/job -o "$(word job)"
mount --bind /run/scratch $root/run/scratch
# What lies there is the host's; nothing has to look through it.
mount -t tmpfs tmp $root/tmp
mount -t tmpfs tmp $root/var/tmp
units=$root/etc/systemd/system
if [ ! -e $units/cellblock-vm.service ]; then
  # The host's own services and mounts are not the guest's.
  rm -rf $units/*.wants $units/*.requires
  # As every Debian has it.
  mkdir $units/multi-user.target.wants
  ln -s /lib/systemd/system/remote-fs.target $units/multi-user.target.wants/
  for unit in e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer man-db.timer \
    getty.target console-getty.service systemd-update-utmp.service systemd-timesyncd.service postgresql.service etcd.service \
    lvm2-monitor.service mdadm.service nbd-server.service nbd-client.service; do
    ln -sfn /dev/null $units/$unit
  done
  # Where it is there it keeps packages from starting their services, as in an image that is being built.
  rm -f $root/usr/sbin/policy-rc.d
  # hostfs has a descriptor of the host's for each file that was opened: every page of the manual would be more than there are.
  rm -f $root/var/lib/man-db/auto-update
  : > $root/etc/fstab
  : > $root/etc/machine-id
  rm -f $root/etc/modules-load.d/*
  cp "$root/run/project/test/vm/cellblock-vm.service" $units/
  mkdir -p $root/lib/modules
  cp -r "$(word modules)"/* $root/lib/modules/
  depmod -b $root "$(uname -r)"
fi
cat > $root/run/vm.env <<END
TMPDIR=/run/scratch/tmp
CELLBLOCK_VM_MOUNTS=/run/mnt
CELLBLOCK_VM_CASE=$(cat /run/job/case)
CELLBLOCK_VM_BOOT=$(cat /run/job/boot)
NODE=$(word node)
END
cd $root || exit 1
mkdir -p run/old
umount /proc /sys /dev/pts /dev/shm 2>/dev/null
pivot_root . run/old || exit 1
# As systemd makes it elsewhere: what is unmounted is unmounted for services, too.
mount --make-rshared /
exec chroot . /lib/systemd/systemd --unit=cellblock-vm.service </dev/console >/dev/console 2>&1
