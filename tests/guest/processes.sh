# ps, kill, pstree's kin, free, uptime, nice, time, and processes that come and go.
set -e
ps | grep -q init
free | grep -q '^Mem:'
uptime | grep -q 'load average'
[ "$(cat /proc/$$/comm)" = sh ]
pstree 2>/dev/null | grep -q init || ps -o pid,comm | grep -q init
sleep 100 & pid=$!
kill -0 $pid && kill $pid
wait $pid 2>/dev/null || [ $? = 143 ]
! kill -0 $pid 2>/dev/null
pidof init >/dev/null || [ "$(cat /proc/1/comm)" = init ]
i=0
while [ $i -lt 200 ]; do i=$((i + 1)); /bin/true; done
(exit 3) || [ $? = 3 ]
time -p true 2>&1 | grep -q real
timeout 1 sleep 10 || [ $? = 143 ]
[ "$(nice -n 5 nice 2>/dev/null || echo 5)" = 5 ]
nproc | grep -q '^[1-9]'
[ "$(sh -c 'ulimit -n 17; ulimit -n')" = 17 ]
id | grep -q uid=0
