# The sums of a megabyte agree with the host's.
set -e
sha256sum -c /tests/sample.sum
cp /tests/sample /tmp/copy && cmp /tests/sample /tmp/copy
[ "$(md5sum </tests/sample)" = "$(cat /tests/sample | md5sum)" ]
rm /tmp/copy
