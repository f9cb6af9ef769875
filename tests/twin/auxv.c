/* What a program finds on its first stack: argc, argv, environment, auxiliary vector. */
#include "twin.h"
#include <elf.h>
#include <sys/auxv.h>

int main(int argc, char **argv, char **environment)
{
	static const struct { unsigned long type; const char *name; int value; } known[] = {
		{AT_PHENT, "PHENT", 1}, {AT_PAGESZ, "PAGESZ", 1}, {AT_BASE, "BASE", 1}, {AT_FLAGS, "FLAGS", 1},
		{AT_UID, "UID", 1}, {AT_EUID, "EUID", 1}, {AT_GID, "GID", 1}, {AT_EGID, "EGID", 1},
		{AT_SECURE, "SECURE", 1}, {AT_CLKTCK, "CLKTCK", 1}, {AT_PHDR, "PHDR", 0}, {AT_PHNUM, "PHNUM", 0},
		{AT_ENTRY, "ENTRY", 0}, {AT_RANDOM, "RANDOM", 0}, {AT_EXECFN, "EXECFN", 0}, {AT_PLATFORM, "PLATFORM", 0},
	};

	printf("argc %d, argv ends with NULL: %d\n", argc, argv[argc] == NULL);
	IS(environment == argv + argc + 1);
	for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
		unsigned long value = getauxval(known[i].type);
		if (known[i].value)
			printf("%s %lu\n", known[i].name, value);
		else
			printf("%s %s\n", known[i].name, value ? "there" : "missing");
	}
	printf("platform %s\n", (char *)getauxval(AT_PLATFORM));
	IS(strcmp((char *)getauxval(AT_EXECFN), argv[0]) == 0);
	IS(getauxval(AT_ENTRY) != 0);

	/* The program headers are those of this file. */
	Elf64_Phdr *header = (Elf64_Phdr *)getauxval(AT_PHDR);
	unsigned loads = 0, executable = 0;
	for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) {
		loads += header[i].p_type == PT_LOAD;
		executable += header[i].p_type == PT_LOAD && header[i].p_flags & PF_X;
	}
	IS(loads > 1);
	IS(executable == 1);

	/* Sixteen random bytes, others in another process. */
	unsigned char *random = (unsigned char *)getauxval(AT_RANDOM), zero[16] = {0};
	IS(memcmp(random, zero, 16) != 0);

	/* The order on the stack: strings above vectors, the name of the file above all. */
	IS((char *)argv < argv[0]);
	IS(argv[0] < (char *)getauxval(AT_EXECFN));
	IS((unsigned long)argv % 8 == 0);
	char *end = (char *)(getauxval(AT_EXECFN) + strlen((char *)getauxval(AT_EXECFN)) + 1);
	IS(((unsigned long)end + 8) % PAGE == 0);

	/* Registers and alignment as the ABI wants them: doubles work. */
	volatile double one = 1.0, three = 3.0;
	printf("%.10f\n", one / three);
	return 0;
}
