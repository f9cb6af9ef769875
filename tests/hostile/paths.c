/*
 * Trees and names beyond what anybody needs: deep folders, long paths, loops, many mounts, races of renames.
 *
 * usage: paths [PART]
 * PART: deep, long, loops, mounts, races, sparse, descriptors, or all.
 */
#include "hostile.h"
#include <dirent.h>
#include <sys/mount.h>

enum { DEPTH = 3000 };

/* A tree far deeper than a path is long, made, looked through and removed step by step. */
static void deep(void)
{
	Memory before = memory_now();
	char path[PATH_MAX * 2];
	int top = open("/tmp", O_RDONLY | O_DIRECTORY);
	int made = 0;

	for (; made < DEPTH; made++) {
		if (mkdir("/tmp/deep", 0755) && made == 0)
			break;
		if (made == 0 ? chdir("/tmp/deep") : 0)
			break;
		if (mkdir("a-folder", 0755) || chdir("a-folder"))
			break;
	}
	MUST(made == DEPTH);
	FAILS(syscall(SYS_getcwd, path, 4096), ENAMETOOLONG);
	FAILS(open("/tmp/deep/nowhere", O_RDONLY), ENOENT);
	/* Up again by "..", in one path as far as a path goes. */
	path[0] = 0;
	for (int i = 0; i < 1300; i++)
		strcat(path, "../");
	MUST(chdir(path) == 0);
	FAILS(rename("/tmp/deep/a-folder", "/tmp/deep/a-folder/a-folder/x"), EINVAL);
	/* Remove from the bottom: down first, then one step at a time. */
	MUST(fchdir(top) == 0 && chdir("deep") == 0);
	for (int i = 0; i < DEPTH; i++)
		if (!MUST(chdir("a-folder") == 0))
			break;
	for (int i = 0; i < DEPTH; i++)
		if (!MUST(chdir("..") == 0 && rmdir("a-folder") == 0))
			break;
	MUST(fchdir(top) == 0 && rmdir("deep") == 0);
	/* And once dropped in one piece: the whole tree goes with a file system. */
	MUST(mkdir("deep", 0755) == 0 && mount("none", "deep", "tmpfs", 0, NULL) == 0 && chdir("deep") == 0);
	for (int i = 0; i < DEPTH; i++)
		if (!MUST(mkdir("a-folder", 0755) == 0 && chdir("a-folder") == 0))
			break;
	MUST(fchdir(top) == 0 && umount("deep") == 0 && rmdir("deep") == 0);
	close(top);
	memory_is_back("deep", before, 1024);
}

static void long_names(void)
{
	static char path[3 * PATH_MAX];
	char *at = path;

	MUST(chdir("/tmp") == 0);
	memset(path, 'n', 256);
	path[256] = 0;
	FAILS(mkdir(path, 0755), ENAMETOOLONG);
	path[255] = 0;
	MUST(mkdir(path, 0755) == 0 && rmdir(path) == 0);
	for (int i = 0; i < PATH_MAX - 1; i++)
		*at++ = '/';
	*at = 0;
	MUST(access(path, F_OK) == 0);
	*at++ = '/';
	*at = 0;
	FAILS(access(path, F_OK), ENAMETOOLONG);
	memset(path, 'x', sizeof path);
	FAILS(open(path, O_RDONLY), ENAMETOOLONG);
	FAILS(symlink(path, "/tmp/l"), ENAMETOOLONG);
	FAILS(access("", F_OK), ENOENT);
	/* The terminating zero is not there: the path ends with the memory. */
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(pages + PAGE, PAGE);
	memset(pages, '/', PAGE);
	FAILS(syscall(SYS_access, pages, F_OK), ENAMETOOLONG);
	FAILS(syscall(SYS_access, pages + 1, F_OK), EFAULT);
	strcpy(pages + PAGE - 5, "/tmp");
	MUST(syscall(SYS_access, pages + PAGE - 5, F_OK) == 0);
	munmap(pages, PAGE);
}

static void loops(void)
{
	char name[64], target[64];

	MUST(mkdir("/tmp/loops", 0755) == 0 && chdir("/tmp/loops") == 0);
	MUST(symlink("self", "self") == 0 && symlink("there", "here") == 0 && symlink("here", "there") == 0);
	FAILS(open("self", O_RDONLY), ELOOP);
	FAILS(open("here/x", O_RDONLY), ELOOP);
	FAILS(open("self", O_CREAT | O_WRONLY, 0600), ELOOP);
	FAILS(mkdir("self/x", 0755), ELOOP);
	MUST(symlink(".", "dot") == 0);
	MUST(access("dot/dot/dot/dot/dot/dot/dot/dot", F_OK) == 0);
	FAILS(access("dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/"
		     "dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot/dot", F_OK), ELOOP);
	close(open("end", O_CREAT | O_WRONLY, 0600));
	for (int i = 0; i < 60; i++) {
		sprintf(name, "%d", i);
		sprintf(target, i ? "%d" : "end", i - 1);
		MUST(symlink(target, name) == 0);
	}
	MUST(access("39", F_OK) == 0);
	FAILS(access("40", F_OK), ELOOP);
	static const char *const all[] = {"self", "here", "there", "dot", "end"};
	for (size_t i = 0; i < COUNT(all); i++)
		MUST(unlink(all[i]) == 0);
	for (int i = 0; i < 60; i++) {
		sprintf(name, "%d", i);
		MUST(unlink(name) == 0);
	}
	MUST(chdir("/") == 0 && rmdir("/tmp/loops") == 0);
}

/* Hundreds of mounts, on top of each other and in each other. */
static void mounts(void)
{
	enum { MANY = 300 };
	Memory before = memory_now();
	char path[PATH_MAX] = "/tmp/mounts";

	MUST(mkdir(path, 0755) == 0);
	for (int i = 0; i < MANY; i++)
		MUST(mount("none", path, "tmpfs", 0, "size=64k") == 0);
	for (int i = 0; i < MANY; i++)
		MUST(umount(path) == 0);
	FAILS(umount(path), EINVAL);
	int depth = 0;
	for (; depth < MANY; depth++) {
		if (!MUST(mount("none", path, "tmpfs", 0, NULL) == 0))
			break;
		strcat(path, "/m");
		if (!MUST(mkdir(path, 0755) == 0))
			break;
	}
	FAILS(umount("/tmp/mounts"), EBUSY);
	MUST(umount2("/tmp/mounts", MNT_DETACH) == 0);
	MUST(rmdir("/tmp/mounts") == 0);
	memory_is_back("mounts", before, 1024);
}

/* Renames, links and removals by several processes in one place; then everything can be removed. */
static void races(void)
{
	Memory before = memory_now();

	MUST(mkdir("/tmp/races", 0755) == 0 && chdir("/tmp/races") == 0);
	for (int process = 0; process < 6; process++)
		if (fork() == 0) {
			Random random = random_from(process + 1);
			char one[40], other[40];

			for (int i = 0; i < 3000; i++) {
				const char *const folders[] = {".", "a", "b", "a/c", "b/c", "a/b/c"};
				struct stat status;

				sprintf(one, "%s/%c", folders[random_below(&random, 6)], (char)('a' + random_below(&random, 4)));
				sprintf(other, "%s/%c", folders[random_below(&random, 6)], (char)('a' + random_below(&random, 4)));
				switch (random_below(&random, 9)) {
				case 0:
					mkdir(one, 0755);
					break;
				case 1:
					rmdir(one);
					break;
				case 2:
				case 3:
					rename(one, other);
					break;
				case 4:
					if (link(one, other))
						break;
					break;
				case 5:
					unlink(one);
					break;
				case 6:
					if (symlink("../a", one))
						break;
					break;
				case 7: {
					int file = open(one, O_CREAT | O_RDWR, 0644);
					if (write(file, one, sizeof one) < 0)
						close(file);
					else
						close(file);
					break;
				}
				default: {
					DIR *folder = opendir(one);
					while (folder && readdir(folder))
						;
					if (folder)
						closedir(folder);
					stat(other, &status);
				}
				}
			}
			_exit(0);
		}
	int status, children = 0;
	while (wait(&status) > 0) {
		MUST(status == 0);
		children++;
	}
	MUST(children == 6);
	MUST(chdir("/tmp") == 0);
	MUST(system("rm -rf /tmp/races") == 0);
	FAILS(access("/tmp/races", F_OK), ENOENT);
	memory_is_back("races", before, 1024);
}

static void sparse(void)
{
	char byte = 7;
	int file = open("/tmp/sparse", O_RDWR | O_CREAT, 0600);
	Memory before = memory_now();

	for (int shift = 12; shift < 62; shift++) {
		MUST(pwrite(file, &byte, 1, 1l << shift) == 1);
		byte = 0;
		MUST(pread(file, &byte, 1, 1l << shift) == 1 && byte == 7);
		MUST(pread(file, &byte, 1, (1l << shift) - 1) == 1 && byte == 0);
		byte = 7;
	}
	struct stat status;
	MUST(fstat(file, &status) == 0 && status.st_size == (1l << 61) + 1 && status.st_blocks <= 50 * 8);
	char *memory = mmap(NULL, 1ul << 40, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	MUST(memory != MAP_FAILED);
	if (memory != MAP_FAILED) {
		MUST(memory[1l << 30] == 7 && memory[(1l << 30) + 5] == 0);
		memory[5l << 30] = 9;
		MUST(pread(file, &byte, 1, 5l << 30) == 1 && byte == 9);
		munmap(memory, 1ul << 40);
	}
	MUST(ftruncate(file, 0) == 0 && fstat(file, &status) == 0 && status.st_blocks == 0);
	unlink("/tmp/sparse");
	memory_is_back("sparse", before, 256);
	close(file);
}

static void descriptors(void)
{
	Memory before = memory_now();
	pid_t child = fork();

	if (child == 0) {
		/* A description takes about 400 bytes; there is to be room beside them. */
		rlim_t most = before.free * 1024 / 600 < 100000 ? before.free * 1024 / 600 : 100000;
		struct rlimit many = {most, most};
		int count = 0, last = -1;

		/* An ordinary user has what there is. */
		if (geteuid() == 0)
			MUST(setrlimit(RLIMIT_NOFILE, &many) == 0);
		else
			MUST(getrlimit(RLIMIT_NOFILE, &many) == 0);
		int end = many.rlim_cur;
		for (;;) {
			int file = open("/dev/null", O_RDONLY);

			if (file < 0)
				break;
			last = file;
			count++;
		}
		MUST(errno == EMFILE || errno == 0);
		MUST(last == end - 1);
		FAILS(dup(0), EMFILE);
		FAILS(fcntl(0, F_DUPFD, end), EINVAL);
		FAILS(dup2(0, end), EBADF);
		FAILS(dup2(0, -1), EBADF);
		pid_t grandchild = fork();
		if (grandchild == 0)
			_exit(fcntl(end - 1, F_GETFD) != 0);
		int status = -1;
		MUST(waitpid(grandchild, &status, 0) == grandchild && status == 0);
		_exit(0);
	}
	int status = -1;
	MUST(waitpid(child, &status, 0) == child && status == 0);
	FAILS(dup2(0, 0x7fffffff), EBADF);
	memory_is_back("descriptors", before, 256);
}

int main(int argc, char **argv)
{
	static const Part parts[] = {
		{"deep", deep, .superuser = 1}, {"long", long_names}, {"loops", loops}, {"mounts", mounts, .superuser = 1},
		{"races", races},		{"sparse", sparse},   {"descriptors", descriptors},
	};

	run_parts(parts, COUNT(parts), argc > 1 ? argv[1] : NULL);
	return verdict();
}
