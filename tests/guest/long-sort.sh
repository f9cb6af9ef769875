# Fifty megabytes sorted: a program that uses memory and time.
set -e
cd /tmp
# Two arithmetic progressions modulo a prime give five million numbers in no order.
awk 'BEGIN { x = 12345; for (i = 0; i < 4900000; i++) { x = (x * 16807) % 2147483647; printf "%010d\n", x } }' >numbers
[ "$(stat -c %s numbers)" -gt 50000000 ]
sort numbers >sorted
[ "$(wc -c <sorted)" = "$(wc -c <numbers)" ]
sort -c sorted
rm numbers sorted
