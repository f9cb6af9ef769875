/* link(2), unlink(2), rmdir(2), mkdir(2): counts of links, and what goes and what stays. */
#include "twin.h"

static void count(const char *path)
{
	struct stat data;

	if (lstat(path, &data))
		printf("%s: %s\n", path, strerrorname_np(errno));
	else
		printf("%s: %lu links\n", path, (unsigned long)data.st_nlink);
}

int main(void)
{
	struct stat data;
	char text[16] = {0};

	enter_folder("links");
	make_file("one", "content");
	count("one");
	TRY(link("one", "two"));
	TRY(link("one", "two"));
	count("two");
	TRY(link("missing", "x"));
	TRY(link("one", "missing/x"));
	TRY(link("one", "two/x"));
	mkdir("d", 0755);
	TRY(link("d", "e"));
	TRY(link("d/", "e"));
	symlink("one", "s");
	symlink("nowhere", "n");
	TRY(link("s", "s2"));
	count("s2");
	TRY(linkat(AT_FDCWD, "s", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
	count("followed");
	TRY(linkat(AT_FDCWD, "n", AT_FDCWD, "n2", AT_SYMLINK_FOLLOW));
	TRY(linkat(AT_FDCWD, "n", AT_FDCWD, "n2", 0));
	TRY(linkat(AT_FDCWD, "one", AT_FDCWD, "n3", 1));
	TRY(link("one", "/proc/one"));

	int file = open("one", O_RDWR);
	TRY(unlink("one"));
	TRY(unlink("two"));
	TRY(unlink("followed"));
	TRY(fstat(file, &data));
	printf("%lu links\n", (unsigned long)data.st_nlink);
	TRY(read(file, text, 7));
	printf("%s\n", text);
	TRY(unlink("one"));
	TRY(unlink("d"));
	TRY(unlink("d/"));
	TRY(unlink("."));
	TRY(unlink("missing/x"));
	make_file("f", "");
	TRY(unlink("f/"));
	TRY(unlink("f/x"));
	TRY(unlink(""));

	/* Folders count their subfolders. */
	count("d");
	TRY(mkdir("d/a", 0755));
	TRY(mkdir("d/b", 0755));
	count("d");
	TRY(mkdir("d/a", 0755));
	TRY(mkdir("f", 0755));
	TRY(mkdir("n", 0755));
	TRY(mkdir("d/c/", 0755));
	TRY(mkdir("missing/x", 0755));
	TRY(mkdir("f/x", 0755));
	TRY(mkdir(".", 0755));
	TRY(mkdir("/", 0755));
	TRY(mkdir("", 0755));
	TRY(rmdir("d"));
	TRY(rmdir("d/a"));
	count("d");
	TRY(rmdir("d/b/"));
	TRY(rmdir("d/."));
	TRY(rmdir("d/.."));
	TRY(rmdir("."));
	TRY(rmdir("f"));
	TRY(rmdir("s"));
	TRY(rmdir("missing"));
	TRY(rmdir("/"));
	symlink("d", "to-d");
	TRY(rmdir("to-d"));
	TRY(rmdir("to-d/"));
	TRY(unlink("to-d/"));
	/* A removed folder that is still open is empty. */
	int folder = open("d/c", O_RDONLY);
	TRY(rmdir("d/c"));
	TRY(fstat(folder, &data));
	printf("%lu links\n", (unsigned long)data.st_nlink);
	TRY(openat(folder, "x", O_CREAT | O_WRONLY, 0644));
	TRY(openat(folder, "..", O_RDONLY) > 0);
	return 0;
}
