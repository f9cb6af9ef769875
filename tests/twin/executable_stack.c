/* A program whose file asks for an executable stack (PT_GNU_STACK) gets one, and hands it on to nobody it starts. */
#include "twin.h"

static void print_stack(const char *name)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof line, maps))
		if (strstr(line, "[stack]"))
			printf("%s: %.4s\n", name, strchr(line, ' ') + 1);
	fclose(maps);
}

static int apply(int (*function)(int), int value)
{
	return function(value);
}

int main(int argc, char **argv)
{
	/* Deep enough that the stack has grown. */
	char room[300000];

	memset(room, argc, sizeof room);
	print_stack("stack");
	/* The compiler puts code on the stack to lead to a function within a function, and so the linker asks. */
	int add(int value)
	{
		return value + argc + room[sizeof room - 1];
	}
	printf("called: %d\n", apply(add, 40));
	fflush(stdout);
	execl("/bin/grep", "grep", "-c", "rw-p .*stack", "/proc/self/maps", (char *)NULL);
	printf("%s cannot start grep\n", argv[0]);
	return 1;
}
