#!/bin/sh
# Runs the case and ends the guest: at once, or in order where it is to be booted again.
# hostfs keeps a descriptor of the host's for each file the guest remembers, a process may have 20,000, and dpkg looks at very many.
while sleep 2; do
  read -r files _ < /proc/sys/fs/inode-nr
  if [ "$files" -gt 14000 ]; then echo 2 > /proc/sys/vm/drop_caches; fi
done &
echo '@@begin@@'
"$NODE" dist/test/vm/guest.js </dev/null 2>&1
code=$?
echo '@@end@@'
dmesg > /run/job/dmesg
echo $code > /run/job/code
sync -f /run/job
if [ -e /run/job/again ] && [ $code = 0 ]; then
  systemctl --no-block reboot
else
  echo o > /proc/sysrq-trigger
fi
