/* MAP_SHARED of files: writes are seen by everyone, at every place, and stay in the file. */
#include "twin.h"

int main(void)
{
	enter_folder("shared");
	int file = open("file", O_CREAT | O_RDWR, 0644);
	ftruncate(file, 3 * PAGE);
	char *one = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	char *two = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, PAGE);
	char *private = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);

	IS(one != MAP_FAILED && two != MAP_FAILED && private != MAP_FAILED);
	strcpy(one + PAGE, "through one");
	printf("%s\n%s\n", two, private + PAGE);
	private[PAGE] = 'T';
	strcpy(one + PAGE, "changed");
	printf("%s\n%s\n", two, private + PAGE);
	char text[16] = {0};
	TRY(pread(file, text, 7, PAGE));
	printf("%s\n", text);
	TRY(pwrite(file, "written", 7, PAGE));
	printf("%s\n", two);
	show_status("child writes", CHILD(strcpy(one, "from the child")));
	printf("%s\n", one);
	/* Shrinking takes pages away, growing gives empty ones. */
	one[2 * PAGE] = 'x';
	TRY(ftruncate(file, PAGE + 10));
	show_status("beyond the end", CHILD(one[2 * PAGE] = 1));
	show_status("in the last page", CHILD(one[PAGE + 100] = 1));
	TRY(ftruncate(file, 3 * PAGE));
	printf("%d %d\n", one[2 * PAGE], one[PAGE + 100]);
	TRY(msync(one, 3 * PAGE, MS_SYNC));
	TRY(munmap(one, 3 * PAGE));
	close(file);
	TRY(unlink("file"));
	printf("still %.7s\n", two);
	/* Reading a file into its own mapping. */
	make_file("self", "0123456789");
	file = open("self", O_RDWR);
	char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	TRY(pread(file, map + 5, 3, 0));
	printf("%.10s\n", map);
	TRY(pwrite(file, map, 10, 10));
	show_file("self");
	return 0;
}
