#!/bin/sh
# Runs the case and ends the guest: at once, or in order where it is to be booted again.
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
