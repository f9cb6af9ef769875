# tar, gzip, bzip2, xz, cpio: what goes in comes out.
set -e
rm -rf /tmp/archive && mkdir -p /tmp/archive/tree/deep/er && cd /tmp/archive
cp /tests/sample tree/sample
ln tree/sample tree/deep/hard
ln -s ../sample tree/deep/soft
mkfifo tree/pipe
seq 1000 >tree/deep/er/numbers
chmod 640 tree/deep/er/numbers
tar c tree | gzip | gunzip | (mkdir out && cd out && tar x)
cmp tree/sample out/tree/sample
cmp tree/deep/er/numbers out/tree/deep/er/numbers
[ "$(readlink out/tree/deep/soft)" = ../sample ]
[ -p out/tree/pipe ]
[ "$(stat -c %a out/tree/deep/er/numbers)" = 640 ]
[ "$(stat -c %h out/tree/sample)" = 2 ]
gzip -k tree/sample && gunzip -c tree/sample.gz | cmp - tree/sample
bzip2 -k tree/deep/er/numbers && bunzip2 -c tree/deep/er/numbers.bz2 | cmp - tree/deep/er/numbers
find tree | cpio -o -H newc 2>/dev/null | (mkdir cp && cd cp && cpio -i 2>/dev/null)
cmp tree/sample cp/tree/sample
cd / && rm -rf /tmp/archive
