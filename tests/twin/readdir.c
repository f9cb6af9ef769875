/* getdents64(2): every entry once, with its type, also when the folder changes meanwhile. */
#include "twin.h"
#include <dirent.h>

static int order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
	char *names[600];
	int count = 0;
	DIR *folder = opendir(path);

	if (!folder) {
		printf("%s: %s\n", path, strerrorname_np(errno));
		return;
	}
	for (struct dirent *entry; (entry = readdir(folder));) {
		char line[300];
		snprintf(line, sizeof line, "%s type %d", entry->d_name, entry->d_type);
		names[count++] = strdup(line);
	}
	closedir(folder);
	qsort(names, count, sizeof *names, order);
	printf("%s: %d entries\n", path, count);
	for (int i = 0; i < count && count < 20; i++)
		printf("  %s\n", names[i]);
}

int main(void)
{
	char name[32], buffer[1000];

	enter_folder("readdir");
	list(".");
	mkdir("folder", 0755);
	make_file("file", "");
	symlink("file", "link");
	mkfifo("pipe", 0600);
	list(".");
	list("file");
	list("missing");
	list("link");
	mkdir("many", 0755);
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof name, "many/file-%d", i);
		make_file(name, "");
	}
	list("many");

	/* Removing what was read while reading misses nothing. */
	DIR *folder = opendir("many");
	int removed = 0;
	for (struct dirent *entry; (entry = readdir(folder));)
		if (entry->d_name[0] != '.')
			removed += unlinkat(dirfd(folder), entry->d_name, 0) == 0;
	printf("removed %d\n", removed);
	rewinddir(folder);
	int left = 0;
	while (readdir(folder))
		left++;
	printf("left %d\n", left);
	closedir(folder);
	list("many");

	/* seekdir returns to where telldir was. */
	folder = opendir(".");
	readdir(folder);
	long place = telldir(folder);
	strcpy(name, readdir(folder)->d_name);
	while (readdir(folder))
		;
	seekdir(folder, place);
	IS(strcmp(name, readdir(folder)->d_name) == 0);
	closedir(folder);

	/* The call itself. */
	int file = open(".", O_RDONLY | O_DIRECTORY);
	TRY(syscall(SYS_getdents64, file, buffer, 10));
	TRY(syscall(SYS_getdents64, file, (void *)8, 1000));
	TRY(syscall(SYS_getdents64, 99, buffer, sizeof buffer));
	TRY(syscall(SYS_getdents64, open("file", O_RDONLY), buffer, sizeof buffer));
	long total = 0, count;
	lseek(file, 0, SEEK_SET);
	while ((count = syscall(SYS_getdents64, file, buffer, 64)) > 0)
		total += count;
	printf("%ld bytes, then %ld\n", total, count);
	struct dirent64 *first = (void *)buffer;
	lseek(file, 0, SEEK_SET);
	syscall(SYS_getdents64, file, buffer, sizeof buffer);
	printf("first %s, length %d\n", first->d_name, first->d_reclen);
	int gone = open("many", O_RDONLY);
	TRY(rmdir("many"));
	TRY(syscall(SYS_getdents64, gone, buffer, sizeof buffer));
	return 0;
}
