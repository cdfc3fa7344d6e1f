#!/bin/sh
# First process of the guest: its root is the host's own, read-only; what is written goes to memory and to the scratch disk.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TERM=dumb LC_ALL=C
word() { sed -n "s/.*\bcellblock\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q ' /dev devtmpfs ' /proc/mounts || mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/project /run/job /run/scratch /run/mnt /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount --bind "$(word project)" /run/project
mount -t hostfs none /run/job -o "$(word job)"
mount -t ext4 /dev/ubda /run/scratch
mkdir -p /run/scratch/tmp
[ "$(word systemd)" = 1 ] && . "$(word project)/test/vm/init-systemd.sh"
mount -t tmpfs tmp /tmp
for name in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn "${name#*:}" "/dev/${name%%:*}"; done
ip link set lo up
address="$(word address)"
[ -n "$address" ] && ip address add "$address" dev vec0 && ip link set vec0 up
cd /run/project || exit 1
export TMPDIR=/run/scratch/tmp CELLBLOCK_VM_MOUNTS=/run/mnt CELLBLOCK_VM_MODULE="$(word module)"
export CELLBLOCK_VM_CASE="$(cat /run/job/case)"
echo '@@begin@@'
"$(word node)" dist/test/vm/guest.js </dev/null 2>&1
echo $? > /run/job/code
echo '@@end@@'
dmesg > /run/job/dmesg
sync -f /run/job
# At once: a test may have left a device behind that nobody serves, and an orderly shutdown would wait for it.
echo o > /proc/sysrq-trigger
sleep 60
