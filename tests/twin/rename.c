/* rename(2), renameat2(2): what replaces what, and what is refused. */
#include "twin.h"

static void prepare(void)
{
	const char *all[] = {"full/inside", "full/new/deep", "full/new", "empty/new/inside", "empty/new", "empty2/inside", "newname/inside",
		"empty/inside", "file", "file2", "hard", "to-file", "to-full", "dangling", "pipe", "full", "empty", "empty2",
		"newname", "missing", "other"};

	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		remove(all[i]);
	mkdir("empty", 0755);
	mkdir("empty2", 0755);
	mkdir("full", 0755);
	make_file("full/inside", "inside");
	make_file("file", "file");
	make_file("file2", "file2");
	link("file", "hard");
	symlink("file", "to-file");
	symlink("full", "to-full");
	symlink("nowhere", "dangling");
	mkfifo("pipe", 0644);
}

int main(void)
{
	const char *names[] = {"file", "file2", "hard", "to-file", "to-full", "dangling", "empty", "empty2", "full", "pipe",
		"missing", "full/inside", "empty/", "file/", ".", "..", "full/.", "empty/new", "full/new/deep", "newname", "newname/"};
	const unsigned count = sizeof names / sizeof *names;

	enter_folder("rename");
	for (unsigned i = 0; i < count; i++)
		for (unsigned j = 0; j < count; j++) {
			prepare();
			errno = 0;
			if (rename(names[i], names[j]))
				printf("%s -> %s: %s\n", names[i], names[j], strerrorname_np(errno));
			else {
				struct stat from, to;
				int gone = lstat(names[i], &from), there = lstat(names[j], &to) == 0;
				printf("%s -> %s: fine, %s, %o\n", names[i], names[j], gone ? "moved" : "both there",
				       there ? to.st_mode & S_IFMT : 0);
			}
		}
	prepare();
	TRY(rename("full", "full/inside/deeper"));
	TRY(rename("full", "full/sub"));
	TRY(renameat2(AT_FDCWD, "file", AT_FDCWD, "file2", 1));
	TRY(renameat2(AT_FDCWD, "file", AT_FDCWD, "other", 1));
	TRY(renameat2(AT_FDCWD, "file2", AT_FDCWD, "full", 2));
	show_file("full");
	show_file("file2/inside");
	TRY(renameat2(AT_FDCWD, "file2", AT_FDCWD, "missing", 2));
	TRY(renameat2(AT_FDCWD, "file2", AT_FDCWD, "other", 3));
	TRY(renameat2(AT_FDCWD, "file2", AT_FDCWD, "other", 64));
	/* An open file keeps its content when its name is taken. */
	prepare();
	int file = open("file2", O_RDONLY);
	char text[8] = {0};
	TRY(rename("file", "file2"));
	TRY(read(file, text, 5));
	printf("%s\n", text);
	TRY(rename("/proc/self/status", "status"));
	TRY(rename("file2", "/proc/file2"));
	return 0;
}
