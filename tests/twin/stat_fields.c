/* stat(2), statx(2), statfs(2): every field that does not depend on the day. */
#include "twin.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>

static void show(const char *path)
{
	struct stat s;

	if (lstat(path, &s)) {
		printf("%s: %s\n", path, strerrorname_np(errno));
		return;
	}
	printf("%s: mode %o links %lu owner %d:%d device %u:%u size %ld block %ld blocks %ld\n", path, s.st_mode,
	       (unsigned long)s.st_nlink, s.st_uid, s.st_gid, major(s.st_rdev), minor(s.st_rdev),
	       S_ISDIR(s.st_mode) || S_ISCHR(s.st_mode) ? -1L : (long)s.st_size, (long)s.st_blksize,
	       S_ISDIR(s.st_mode) || S_ISCHR(s.st_mode) ? -1L : (long)s.st_blocks);
}

int main(void)
{
	struct stat a, b;
	struct statx x;
	struct statfs f;

	enter_folder("stat");
	make_file("empty", "");
	make_file("one", "1");
	make_file("two", "22");
	mkdir("folder", 0750);
	symlink("a target of 22 letters", "link");
	mkfifo("pipe", 0600);
	link("one", "uno");
	show("empty"), show("one"), show("folder"), show("link"), show("pipe"), show("uno"), show("missing");
	show("/dev/null"), show("/dev/zero"), show("/dev/full"), show("/dev/random"), show("/dev/urandom"), show("/dev/tty");
	stat("one", &a), stat("uno", &b);
	IS(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	stat("two", &b);
	IS(a.st_ino != b.st_ino);
	stat("/proc", &b);
	IS(a.st_dev != b.st_dev);
	IS(labs(a.st_ctim.tv_sec - time(NULL)) < 5);
	TRY(fstat(99, &a));
	TRY(stat("one", (struct stat *)8));
	int pipes[2];
	pipe(pipes);
	fstat(pipes[0], &a);
	printf("pipe %o size %ld\n", a.st_mode, (long)a.st_size);
	TRY(fstatat(AT_FDCWD, "link", &a, 0));
	TRY(fstatat(AT_FDCWD, "link", &a, AT_SYMLINK_NOFOLLOW));
	TRY(fstatat(AT_FDCWD, "", &a, 0));
	TRY(fstatat(pipes[0], "", &a, AT_EMPTY_PATH));
	TRY(fstatat(AT_FDCWD, "one", &a, 0x40000));

	TRY(statx(AT_FDCWD, "two", 0, STATX_BASIC_STATS, &x));
	printf("mode %o links %u size %llu basic %d\n", x.stx_mode, x.stx_nlink, (unsigned long long)x.stx_size,
	       (x.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
	TRY(statx(AT_FDCWD, "two", 0x8000, STATX_BASIC_STATS, &x));
	TRY(statx(AT_FDCWD, "two", 0, 0x80000000, &x));
	TRY(statx(AT_FDCWD, "two", 0, STATX_SIZE, (void *)8));

	TRY(statfs(".", &f));
	printf("type %lx block %ld name %ld\n", (long)f.f_type, (long)f.f_bsize, (long)f.f_namelen);
	IS(f.f_bfree > 0 && f.f_bfree <= f.f_blocks);
	TRY(statfs("/proc", &f));
	printf("type %lx block %ld\n", (long)f.f_type, (long)f.f_bsize);
	TRY(fstatfs(pipes[0], &f));
	printf("type %lx\n", (long)f.f_type);
	TRY(statfs("missing", &f));
	TRY(fstatfs(99, &f));
	return 0;
}
