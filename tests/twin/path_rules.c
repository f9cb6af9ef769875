/* path_resolution(7): dots, slashes, links, lengths. */
#include "twin.h"

static void look(const char *path)
{
	struct stat data;

	errno = 0;
	if (lstat(path, &data))
		printf("lstat %s: %s\n", path, strerrorname_np(errno));
	else
		printf("lstat %s: %o\n", path, data.st_mode & S_IFMT);
	if (stat(path, &data))
		printf("stat %s: %s\n", path, strerrorname_np(errno));
	else
		printf("stat %s: %o\n", path, data.st_mode & S_IFMT);
}

int main(void)
{
	char path[PATH_MAX + 100], name[300], text[100];

	enter_folder("path");
	mkdir("d", 0755);
	make_file("f", "x");
	symlink("d", "to-d");
	symlink("f", "to-f");
	symlink("self", "self");
	symlink("b", "a");
	symlink("a", "b");
	symlink("nowhere", "dangling");
	symlink("/", "root");
	symlink("to-f/", "to-f-slash");
	symlink("", "empty");
	const char *paths[] = {".", "./", "..", "/", "//", "/..", "/../..", "d", "d/", "d//", "d/.", "d/..", "d/../f", "f/", "f/.",
		"f/..", "f//x", "to-d", "to-d/", "to-d/.", "to-d/..", "to-f", "to-f/", "to-f-slash", "self", "self/", "a",
		"dangling", "dangling/", "root", "root/tmp", "root/..", "to-d/../to-d/../f", "x/../f", "", " "};
	for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++)
		look(paths[i]);

	memset(name, 'n', sizeof name);
	name[256] = 0;
	TRY(mkdir(name, 0755));
	name[255] = 0;
	TRY(mkdir(name, 0755));
	for (int length = PATH_MAX - 2; length <= PATH_MAX + 1; length++) {
		memset(path, '/', length);
		path[length] = 0;
		path[length - 1] = 'f';
		memcpy(path, "/tmp/twin-path/", 15);
		printf("length %d: %s\n", length, access(path, F_OK) ? strerrorname_np(errno) : "fine");
	}
	/* Forty links in a chain are followed, one more is a loop. */
	symlink("f", "chain0");
	for (int i = 1; i <= 41; i++) {
		char from[16], to[16];
		snprintf(to, sizeof to, "chain%d", i - 1);
		snprintf(from, sizeof from, "chain%d", i);
		symlink(to, from);
		if (i >= 38)
			printf("%s: %s\n", from, access(from, F_OK) ? strerrorname_np(errno) : "fine");
	}
	TRY(readlink("to-d", text, sizeof text));
	TRY(readlink("to-d", text, 0));
	TRY(readlink("chain10", text, 3));
	printf("%.3s\n", text);
	TRY(readlink("f", text, sizeof text));
	TRY(readlink("d", text, sizeof text));
	TRY(readlink("missing", text, sizeof text));
	TRY(symlink("x", "f"));
	TRY(symlink("", "nothing"));
	TRY(symlink("x", "missing/y"));
	memset(path, 'x', PATH_MAX);
	path[PATH_MAX] = 0;
	TRY(symlink(path, "long"));

	/* The working folder: its name, and when it is gone. */
	TRY(chdir("d"));
	printf("%s\n", getcwd(path, sizeof path));
	TRY(chdir("../to-d"));
	printf("%s\n", getcwd(path, sizeof path));
	TRY(syscall(SYS_getcwd, path, 5));
	TRY(chdir("/tmp/twin-path/f"));
	TRY(chdir("missing"));
	TRY(rmdir("../d"));
	TRY(syscall(SYS_getcwd, path, sizeof path));
	TRY(access(".", F_OK));
	TRY(access("..", F_OK));
	TRY(open("new", O_CREAT | O_WRONLY, 0644));
	TRY(mkdir("new", 0755));
	int folder = open("/tmp/twin-path", O_RDONLY | O_DIRECTORY);
	TRY(fchdir(folder));
	TRY(fchdir(99));
	TRY(fchdir(open("f", O_RDONLY)));
	TRY(unlinkat(folder, "f", AT_REMOVEDIR));
	TRY(faccessat(folder, "f", R_OK | X_OK, 0));
	TRY(faccessat(folder, "f", R_OK | W_OK, 0));
	TRY(faccessat(folder, "f", 8, 0));
	return 0;
}
