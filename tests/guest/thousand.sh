# A thousand processes at once, all answering. They are looked for by their numbers: how many others there are at a moment
# (the members of a pipeline come and go) is nobody's business.
set -e
present() {
    count=0
    for pid in $pids; do
        [ ! -d /proc/$pid ] || count=$((count + 1))
    done
}
i=0
pids=
while [ $i -lt 1000 ]; do
    i=$((i + 1))
    sleep 1000 &
    pids="$pids $!"
done
present
[ $count -eq 1000 ] || { echo "only $count are there"; exit 1; }
listed=$(ls -d /proc/[0-9]* | wc -l)
[ "$listed" -ge 1000 ] || { echo "only $listed are listed"; exit 1; }
kill $pids
wait || true
present
[ $count -eq 0 ] || { echo "$count are left"; exit 1; }
