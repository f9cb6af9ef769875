/* open(2): flags, their combinations, and the errors. */
#include "twin.h"

static void show_flags(const char *what, int file)
{
	printf("%s: flags %#o, close on exec %d\n", what, fcntl(file, F_GETFL), fcntl(file, F_GETFD));
	close(file);
}

int main(void)
{
	char text[16];
	int file;

	enter_folder("open");
	TRY(open("missing", O_RDONLY));
	TRY(open("", O_RDONLY));
	TRY(open("missing/file", O_CREAT | O_WRONLY, 0644));
	file = TRY(open("file", O_CREAT | O_EXCL | O_WRONLY, 0644));
	TRY(read(file, text, 1));
	TRY(write(file, "0123456789", 10));
	close(file);
	TRY(open("file", O_CREAT | O_EXCL | O_WRONLY, 0644));
	TRY(open("file/", O_RDONLY));
	TRY(open("file/x", O_RDONLY));
	TRY(open("file", O_DIRECTORY));
	file = TRY(open("file", O_RDONLY));
	TRY(write(file, "x", 1));
	TRY(ftruncate(file, 3));
	close(file);
	file = TRY(open("file", O_RDONLY | O_TRUNC));
	close(file);
	show_file("file");
	file = TRY(open("file", O_ACCMODE));
	TRY(read(file, text, 1));
	TRY(write(file, "x", 1));
	close(file);
	make_file("file", "0123456789");
	file = TRY(open("file", O_WRONLY | O_APPEND));
	TRY(lseek(file, 2, SEEK_SET));
	TRY(write(file, "ab", 2));
	TRY(lseek(file, 0, SEEK_CUR));
	close(file);
	show_file("file");

	TRY(mkdir("folder", 0755));
	TRY(open("folder", O_WRONLY));
	TRY(open("folder", O_RDWR));
	TRY(open("folder", O_CREAT | O_RDONLY, 0644));
	TRY(open("folder", O_TRUNC));
	file = TRY(open("folder", O_RDONLY));
	TRY(read(file, text, 1));
	TRY(openat(file, "new", O_CREAT | O_RDWR, 0600));
	close(file);
	TRY(symlink("file", "link"));
	TRY(symlink("nowhere", "dangling"));
	TRY(open("link", O_NOFOLLOW));
	TRY(open("dangling", O_RDONLY));
	TRY(open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0644));
	TRY(open("dangling", O_CREAT | O_WRONLY, 0644));
	TRY(access("nowhere", F_OK));
	TRY(open("new/", O_CREAT | O_WRONLY, 0644));
	file = TRY(open("link", O_PATH | O_NOFOLLOW));
	TRY(read(file, text, 1));
	TRY(fchmod(file, 0600));
	show_flags("O_PATH", file);
	show_flags("usual", open("file", O_RDWR));
	show_flags("all kept", open("file", O_RDWR | O_APPEND | O_NONBLOCK | O_SYNC | O_NOATIME | O_CLOEXEC));
	show_flags("not kept", open("file", O_RDWR | O_CREAT | O_TRUNC | O_NOCTTY, 0644));
	file = TRY(open(".", O_TMPFILE | O_RDWR, 0600));
	TRY(write(file, "temporary", 9));
	struct stat data;
	fstat(file, &data);
	printf("links %ld\n", (long)data.st_nlink);
	close(file);
	TRY(open(".", O_TMPFILE | O_RDONLY, 0600));
	TRY(creat("created", 0666));
	TRY(openat(99, "file", O_RDONLY));
	TRY(openat(0x7fffffff, "/tmp", O_RDONLY));
	file = open("file", O_RDONLY);
	TRY(openat(file, "x", O_RDONLY));
	TRY(open((char *)8, O_RDONLY));
	TRY(close(file));
	TRY(close(file));
	TRY(close(-1));
	struct rlimit limit = {5, 10};
	setrlimit(RLIMIT_NOFILE, &limit);
	int i;
	for (i = 0; open("file", O_RDONLY) >= 0; i++)
		;
	printf("then %s\n", strerrorname_np(errno));
	return 0;
}
