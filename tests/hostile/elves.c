/*
 * Executes damaged programs: each is refused with an error, or ends by a signal or by itself.
 *
 * usage: elves [SEED [COUNT]]
 * SEED (1) chooses the damage, COUNT (500) programs. Besides these: truncated ones, and interpreters of interpreters.
 */
#include "hostile.h"
#include <elf.h>
#include <stddef.h>

/* A small program without a library: it exits with status 42. */
static const unsigned char code[] = {
	0xb8, 0xe7, 0x00, 0x00, 0x00, /* mov $231 (exit_group), %eax */
	0xbf, 0x2a, 0x00, 0x00, 0x00, /* mov $42, %edi */
	0x0f, 0x05,		      /* syscall */
};

typedef struct {
	Elf64_Ehdr header;
	Elf64_Phdr segments[4];
	unsigned char code[256];
	unsigned char data[256];
} Image;

static void build(Image *image, int type)
{
	uint64_t base = type == ET_EXEC ? 0x400000 : 0;

	memset(image, 0, sizeof *image);
	memcpy(image->header.e_ident, ELFMAG "\2\1\1", 7);
	image->header.e_type = type;
	image->header.e_machine = EM_X86_64;
	image->header.e_version = EV_CURRENT;
	image->header.e_entry = base + offsetof(Image, code);
	image->header.e_phoff = offsetof(Image, segments);
	image->header.e_ehsize = sizeof image->header;
	image->header.e_phentsize = sizeof image->segments[0];
	image->header.e_phnum = COUNT(image->segments);
	image->segments[0] = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, 0, base, base, sizeof *image, sizeof *image, PAGE};
	image->segments[1] = (Elf64_Phdr){PT_LOAD, PF_R | PF_W, 0, base + 0x10000, base + 0x10000, sizeof *image, 0x5000, PAGE};
	image->segments[2] = (Elf64_Phdr){PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16};
	image->segments[3] = (Elf64_Phdr){PT_NOTE, PF_R, offsetof(Image, data), base, base, 32, 32, 4};
	memcpy(image->code, code, sizeof code);
}

static void put(const char *path, const void *bytes, size_t size)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	MUST(file >= 0 && write(file, bytes, size) == (ssize_t)size);
	close(file);
}

/* Executes the file; gives the wait status. An error of execve is exit status 200. */
static int execute(const char *path)
{
	pid_t child = fork();

	if (child == 0) {
		char *const arguments[] = {"elf", NULL};
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		alarm(10);
		execve(path, arguments, arguments + 1);
		_exit(200);
	}
	int status = -1;
	MUST(child > 0 && waitpid(child, &status, 0) == child);
	return status;
}

static void damage(Image *image, size_t *size, Random *random)
{
	static const uint64_t values[] = {0, 1, 2, 4095, 4096, 0x7fffffff, 0x80000000, 0xffffffff, 0x7ffffffff000,
					  0x7fffffffffff, 0x800000000000, 0xffff800000000000, 0x7fffffffffffffff, ~0ul, -4096ul};
	unsigned char *bytes = (unsigned char *)image;
	size_t headers = offsetof(Image, code);

	for (uint64_t i = 1 + random_below(random, 4); i > 0; i--) {
		size_t at = random_below(random, headers);
		uint64_t value = values[random_below(random, COUNT(values))];

		switch (random_below(random, 5)) {
		case 0:
			bytes[at] ^= 1 << random_below(random, 8);
			break;
		case 1:
			bytes[at] = random_next(random);
			break;
		case 2:
			/* A field of 8 bytes. */
			memcpy(bytes + at / 8 * 8, &value, 8);
			break;
		case 3: {
			Elf64_Phdr *segment = &image->segments[random_below(random, 4)];
			uint64_t *fields[] = {&segment->p_offset, &segment->p_vaddr, &segment->p_filesz,
					      &segment->p_memsz, &segment->p_align};
			*fields[random_below(random, COUNT(fields))] = value;
			if (random_below(random, 3) == 0)
				segment->p_type = random_below(random, 8);
			break;
		}
		default:
			*size = random_below(random, sizeof *image + 1);
		}
	}
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	int count = argc > 2 ? atoi(argv[2]) : 500;
	unsigned refused = 0, ran = 0, killed = 0;
	Random random = random_from(seed);
	Image image;

	MUST(mkdir("/tmp/elves", 0755) == 0 && chdir("/tmp/elves") == 0);
	for (int type = ET_EXEC; type <= ET_DYN; type++) {
		build(&image, type);
		put("whole", &image, sizeof image);
		int status = execute("./whole");
		if (status != 42 << 8)
			wrong("an undamaged program: status %#x", status);
	}
	Memory before = memory_now();
	for (int i = 0; i < count; i++) {
		size_t size = sizeof image;

		build(&image, random_below(&random, 2) ? ET_EXEC : ET_DYN);
		damage(&image, &size, &random);
		unlink("damaged");
		put("damaged", &image, size);
		int status = execute("./damaged");
		if (WIFSIGNALED(status))
			killed++;
		else if (WEXITSTATUS(status) == 200)
			refused++;
		else
			ran++;
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
			wrong("program %d of seed %lu did not end", i, seed);
	}
	printf("%d damaged programs: %u refused, %u ran, %u killed\n", count, refused, ran, killed);
	/* Scripts of scripts, and of themselves. */
	put("one", "#!./two\n", 8);
	put("two", "#!./one x y\n", 12);
	MUST(execute("./one") == 200 << 8);
	put("itself", "#!./itself", 10);
	MUST(execute("./itself") == 200 << 8);
	static const char *const scripts[] = {"#!", "#! ", "#!\n", "#!/", "#!\t\t\n", "#!/nowhere\n", "#!/tmp\n", "", "\n", "\177ELF"};
	for (size_t i = 0; i < COUNT(scripts); i++) {
		put("script", scripts[i], strlen(scripts[i]));
		MUST(execute("./script") == 200 << 8);
	}
	static char long_line[5000] = "#!/";
	memset(long_line + 3, 'x', sizeof long_line - 4);
	put("script", long_line, sizeof long_line - 1);
	MUST(execute("./script") == 200 << 8);
	static const char *const files[] = {"whole", "damaged", "one", "two", "itself", "script"};
	memory_is_back("elves", before, 256);
	for (size_t i = 0; i < COUNT(files); i++)
		unlink(files[i]);
	MUST(chdir("/") == 0 && rmdir("/tmp/elves") == 0);
	return verdict();
}
