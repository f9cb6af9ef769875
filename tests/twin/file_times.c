/* utimensat(2), and which times a change moves. */
#include "twin.h"

static struct stat before, after;

static void begin(const char *path)
{
	stat(path, &before);
	sleep_ms(15);
}

static int newer(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static void end(const char *what, const char *path)
{
	stat(path, &after);
	printf("%s:%s%s%s\n", what, newer(after.st_atim, before.st_atim) ? " atime" : "",
	       newer(after.st_mtim, before.st_mtim) ? " mtime" : "", newer(after.st_ctim, before.st_ctim) ? " ctime" : "");
}

#define CHANGE(what, path, ...)                                                                                        \
	do {                                                                                                           \
		begin(path);                                                                                           \
		__VA_ARGS__;                                                                                           \
		end(what, path);                                                                                       \
	} while (0)

int main(void)
{
	char text[8];
	struct timespec times[2] = {{1000, 5}, {2000, 999999999}};

	enter_folder("times");
	make_file("file", "content");
	TRY(utimensat(AT_FDCWD, "file", times, 0));
	stat("file", &after);
	printf("%ld.%09ld %ld.%09ld\n", (long)after.st_atim.tv_sec, after.st_atim.tv_nsec, (long)after.st_mtim.tv_sec,
	       after.st_mtim.tv_nsec);
	times[0].tv_nsec = UTIME_OMIT, times[1].tv_nsec = UTIME_NOW;
	TRY(utimensat(AT_FDCWD, "file", times, 0));
	stat("file", &after);
	printf("%ld.%09ld, modified %s\n", (long)after.st_atim.tv_sec, after.st_atim.tv_nsec,
	       after.st_mtim.tv_sec > 1000000 ? "now" : "then");
	times[0].tv_nsec = 1000000000;
	TRY(utimensat(AT_FDCWD, "file", times, 0));
	times[0].tv_nsec = UTIME_OMIT, times[1].tv_nsec = UTIME_OMIT;
	TRY(utimensat(AT_FDCWD, "missing", times, 0));
	TRY(utimensat(AT_FDCWD, "file", NULL, 0));
	TRY(utimensat(99, "file", NULL, 0));
	TRY(utimensat(AT_FDCWD, "file", NULL, 1));
	symlink("file", "link");
	times[0] = (struct timespec){77, 0}, times[1] = (struct timespec){88, 0};
	TRY(utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW));
	lstat("link", &after);
	printf("link %ld %ld\n", (long)after.st_atim.tv_sec, (long)after.st_mtim.tv_sec);
	int file = open("file", O_RDWR);
	TRY(futimens(file, times));
	show_status("a user", CHILD(chmod("file", 0666); setuid(1000); TRY(utimensat(AT_FDCWD, "file", NULL, 0));
				    TRY(utimensat(AT_FDCWD, "file", times, 0))));

	CHANGE("write", "file", write(file, "x", 1));
	CHANGE("empty write", "file", write(file, "x", 0));
	CHANGE("chmod", "file", chmod("file", 0600));
	CHANGE("link", "file", link("file", "second"));
	CHANGE("unlink", "file", unlink("second"));
	CHANGE("rename", "file", rename("file", "other"); rename("other", "file"));
	CHANGE("truncate", "file", truncate("file", 3));
	CHANGE("truncate to the same", "file", truncate("file", 3));
	CHANGE("open", "file", close(open("file", O_RDONLY)));
	CHANGE("open with O_TRUNC", "file", close(open("file", O_WRONLY | O_TRUNC)));
	CHANGE("stat", "file", stat("file", &after));
	write(file, "data", 4);
	CHANGE("read", "file", pread(file, text, 4, 0));
	mkdir("folder", 0755);
	CHANGE("file in the folder", "folder", make_file("folder/f", ""));
	CHANGE("write in the folder", "folder", make_file("folder/f", "x"));
	CHANGE("unlink in the folder", "folder", unlink("folder/f"));
	CHANGE("chdir", "folder", chdir("folder"); chdir(".."));
	return 0;
}
