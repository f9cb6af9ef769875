# A thousand processes at once, all answering.
set -e
before=$(ls -d /proc/[0-9]* | wc -l)
i=0
pids=
while [ $i -lt 1000 ]; do
    i=$((i + 1))
    sleep 1000 &
    pids="$pids $!"
done
now=$(ls -d /proc/[0-9]* | wc -l)
[ $((now - before)) -ge 1000 ] || { echo "only $((now - before)) are there"; exit 1; }
kill $pids
wait || true
after=$(ls -d /proc/[0-9]* | wc -l)
[ "$after" -le $((before + 2)) ] || { echo "$after are left of $before"; exit 1; }
