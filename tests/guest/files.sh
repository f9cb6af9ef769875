# ls, cp, mv, rm, find, dd, ln, chmod, df, du, mount on the file system.
set -e
rm -rf /tmp/files && mkdir /tmp/files && cd /tmp/files
mkdir -p a/b/c && touch a/b/c/file && cp -a a copy
[ "$(find copy | wc -l)" = 4 ]
mv copy/b moved && [ -e moved/c/file ] && [ ! -e copy/b ]
ln -s moved link && [ "$(ls link/)" = c ]
dd if=/dev/zero of=big bs=64k count=160 2>/dev/null && [ "$(stat -c %s big)" = 10485760 ]
dd if=/dev/urandom of=big bs=1k count=1 seek=5000 conv=notrunc 2>/dev/null && [ "$(stat -c %s big)" = 10485760 ]
du -s . >/dev/null
[ "$(ls -l big | cut -c1-10)" = "-rw-r--r--" ]
chmod 4711 big && [ "$(ls -l big | cut -c1-10)" = "-rws--x--x" ]
i=0
while [ $i -lt 300 ]; do i=$((i + 1)); echo $i >f$i; done
[ "$(ls f* | wc -l)" = 300 ]
[ "$(cat f* | sort -n | tail -n 1)" = 300 ]
find . -name 'f*' -exec rm {} + && [ "$(ls | grep -c '^f[0-9]')" = 0 ]
mount | grep -q ' on /proc '
df >/dev/null
mkdir m && mount -t tmpfs none m && echo inside >m/file && [ "$(cat m/file)" = inside ] && umount m && [ ! -e m/file ]
rmdir m 2>/dev/null
rm -rf /tmp/files && [ ! -e /tmp/files ]
