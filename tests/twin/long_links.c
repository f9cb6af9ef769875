/* Paths through forty symbolic links of more than a thousand steps each: every call that takes a path goes to their end. */
#include "twin.h"
#include <sys/statfs.h>

enum { LINKS = 40 };

/* Links `name`0 to `name`39, each with some thousand bytes of text; the last leads to `target`. */
static void chain(const char *name, const char *step, const char *target)
{
	static char text[PATH_MAX];
	char link[32];
	size_t length = 0;
	while (length + strlen(step) < PATH_MAX - 64)
		length += sprintf(text + length, "%s", step);
	for (int i = 0; i < LINKS; i++) {
		if (i == LINKS - 1)
			sprintf(text + length, "%s", target);
		else
			sprintf(text + length, "%s%d", name, i + 1);
		snprintf(link, sizeof(link), "%s%d", name, i);
		if (symlink(text, link) != 0)
			printf("symlink %s: %s\n", link, strerror(errno));
	}
}

static const char *contents(const char *path)
{
	static char text[64];
	int file = open(path, O_RDONLY);
	ssize_t length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
	close(file);
	text[length < 0 ? 0 : length] = 0;
	return text;
}

static void write_file(const char *path, int flags, const char *text)
{
	int file = (int)YES(open(path, O_WRONLY | O_CREAT | flags, 0644));
	if (file >= 0)
		TRY(write(file, text, strlen(text)));
	close(file);
}

static void opening(void)
{
	struct stat status;
	write_file("file", 0, "found");
	chain("f", "a/../", "file");
	printf("%s\n", contents("f0"));
	TRY(stat("f0", &status));
	printf("size %ld, regular %d\n", (long)status.st_size, S_ISREG(status.st_mode));
	TRY(lstat("f0", &status));
	printf("link %d\n", S_ISLNK(status.st_mode));
	TRY(access("f0", R_OK));
	TRY(open("f0", O_RDONLY | O_NOFOLLOW));
	TRY(open("f0", O_RDWR | O_CREAT | O_EXCL, 0600));
	TRY(open("f0", O_RDONLY | O_DIRECTORY));
	TRY(stat("f0/", &status));
	TRY(truncate("f0", 3));
	printf("%s\n", contents("f39"));
	TRY(chmod("f0", 0600));
	TRY(stat("file", &status));
	printf("mode %o\n", status.st_mode & 07777);
	TRY(link("f0", "second"));
	TRY(linkat(AT_FDCWD, "f0", AT_FDCWD, "third", AT_SYMLINK_FOLLOW));
	TRY(lstat("second", &status));
	printf("link %d\n", S_ISLNK(status.st_mode));
	TRY(lstat("third", &status));
	printf("names %ld\n", (long)status.st_nlink);
	TRY(symlink("f0", "more"));
	TRY(stat("more", &status));
	struct statfs system;
	TRY(statfs("f0", &system));
	struct timespec times[2] = {{1, 2}, {3, 4}};
	TRY(utimensat(AT_FDCWD, "f0", times, 0));
	TRY(stat("file", &status));
	printf("modified %ld\n", (long)status.st_mtime);
}

static void creating(void)
{
	chain("n", "./", "new");
	TRY(access("n0", F_OK));
	TRY(open("n0", O_WRONLY | O_CREAT | O_EXCL, 0600));
	write_file("n0", 0, "made");
	printf("%s\n", contents("new"));
	TRY(mkdir("n0", 0700));
	TRY(unlink("n0"));
	TRY(access("n1", F_OK));
	chain("x", "a/../", "nowhere/file");
	TRY(open("x0", O_WRONLY | O_CREAT, 0600));
	chain("o", "./", "o0");
	TRY(open("o0", O_RDONLY));
}

static void changing(void)
{
	char path[PATH_MAX];
	struct stat status;
	mkdir("d", 0755);
	mkdir("e", 0755);
	chain("d", "a/../", "d");
	chain("e", "./", "e");
	TRY(mkdir("d0/made", 0700));
	TRY(mkdir("d0/made", 0700));
	write_file("d0/one", O_EXCL, "one");
	TRY(rename("d0/one", "e0/two"));
	printf("%s\n", contents("e/two"));
	TRY(rename("e0/two", "e0/two"));
	TRY(rename("e0/two", "d0/made"));
	TRY(link("e0/two", "d0/three"));
	TRY(linkat(AT_FDCWD, "e0/two", AT_FDCWD, "e0/two", AT_SYMLINK_FOLLOW));
	TRY(symlink("text", "d0/link"));
	TRY(readlink("d0/link", path, sizeof(path)));
	TRY(mknod("e0/fifo", S_IFIFO | 0600, 0));
	TRY(unlink("d0/three"));
	TRY(rmdir("d0/made"));
	TRY(rmdir("d0"));
	TRY(rmdir("d0/"));
	TRY(chdir("d0"));
	printf("%s\n", strrchr(getcwd(path, sizeof(path)), '/'));
	TRY(readlink("link", path, sizeof(path)));
	TRY(stat("../e0/two", &status));
	TRY(chdir(".."));
	int d = open("d", O_RDONLY | O_DIRECTORY), e = open("e", O_RDONLY | O_DIRECTORY);
	/* The same text from two places is two paths. */
	TRY(symlinkat("../d1", d, "there"));
	TRY(symlinkat("../e1", e, "there"));
	TRY(mkdirat(d, "there/b", 0700));
	TRY(renameat(d, "there/b", e, "there/b"));
	IS(access("e/b", F_OK) == 0 && access("d/b", F_OK) != 0);
	close(d), close(e);
}

/* Whether a directory may be searched is asked at each step; forty links are followed, and not one more. */
static void searching(void)
{
	mkdir("shut", 0700);
	chain("s", "shut/../", "file");
	TRY(access("s0", F_OK));
	CHILD({
		if (setuid(1000) == 0)
			TRY(access("s0", F_OK));
	});
	chain("p", "a/../", "f39");
	TRY(access("p0", F_OK));
	TRY(access("p1", F_OK));
}

static void executing(void)
{
	char self[PATH_MAX] = "";
	readlink("/proc/self/exe", self, sizeof(self) - 1);
	TRY(symlink(self, "program"));
	chain("z", "a/../", "program");
	/* Forty and the one to the program are too many. */
	TRY(execl("z0", "z0", "again", (char *)NULL));
	int status = CHILD(execl("z1", "z1", "again", (char *)NULL));
	printf("executed: %d\n", WEXITSTATUS(status));
}

int main(int count, char **arguments)
{
	if (count > 1 && strcmp(arguments[1], "again") == 0)
		return 7;
	umask(022);
	enter_folder("long-links");
	mkdir("a", 0755);
	opening();
	creating();
	changing();
	searching();
	executing();
	return 0;
}
