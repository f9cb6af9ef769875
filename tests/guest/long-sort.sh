# Fifty megabytes sorted: a program that uses memory and time.
set -e
cd /tmp
numbers 970000 >numbers
[ "$(stat -c %s numbers)" -gt 50000000 ]
sort numbers >sorted
[ "$(wc -c <sorted)" = "$(wc -c <numbers)" ]
sort -c sorted
rm numbers sorted
