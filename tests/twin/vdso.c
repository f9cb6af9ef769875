/* vdso(7): the shared object, its functions beside the system calls they spare, and what may be done with its areas. */
#include "twin.h"
#include <elf.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>

static const char *image;
static const char *names;
static const Elf64_Sym *symbols;
static const Elf64_Word *hash, *gnu_hash;
static const Elf64_Versym *versions;
static const Elf64_Verdef *definitions;

static int (*vdso_gettime)(clockid_t, struct timespec *);
static int (*vdso_getres)(clockid_t, struct timespec *);
static int (*vdso_gettimeofday)(struct timeval *, struct timezone *);
static time_t (*vdso_time)(time_t *);
static int (*vdso_getcpu)(unsigned *, unsigned *, void *);

static void parse(void)
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Dyn *dynamic = NULL;
	Elf64_Addr soname = 0;

	IS(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS64);
	printf("type %d, machine %d\n", header->e_type, header->e_machine);
	const Elf64_Phdr *part = (const void *)(image + header->e_phoff);
	for (int i = 0; i < header->e_phnum; i++) {
		if (part[i].p_type == PT_LOAD)
			printf("loaded at %lx from %lx, flags %x\n", part[i].p_vaddr, part[i].p_offset, part[i].p_flags);
		if (part[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(image + part[i].p_vaddr);
		if (part[i].p_type == PT_GNU_EH_FRAME)
			printf("can be unwound\n");
	}
	for (; dynamic && dynamic->d_tag; dynamic++) {
		const void *at = image + dynamic->d_un.d_ptr;
		switch (dynamic->d_tag) {
		case DT_STRTAB: names = at; break;
		case DT_SYMTAB: symbols = at; break;
		case DT_HASH: hash = at; break;
		case DT_GNU_HASH: gnu_hash = at; break;
		case DT_VERSYM: versions = at; break;
		case DT_VERDEF: definitions = at; break;
		case DT_SONAME: soname = dynamic->d_un.d_val; break;
		}
	}
	IS(names && symbols && hash && gnu_hash && versions && definitions);
	printf("%s\n", names + soname);
}

static unsigned elf_hash(const char *name)
{
	unsigned value = 0;

	while (*name) {
		value = (value << 4) + (unsigned char)*name++;
		value ^= (value & 0xf0000000) >> 24;
		value &= 0x0fffffff;
	}
	return value;
}

static unsigned by_hash(const char *name)
{
	const Elf64_Word *bucket = hash + 2, *chain = bucket + hash[0];
	unsigned at = bucket[elf_hash(name) % hash[0]];

	while (at && strcmp(names + symbols[at].st_name, name))
		at = chain[at];
	return at;
}

static unsigned by_gnu_hash(const char *name)
{
	const Elf64_Xword *filter = (const void *)(gnu_hash + 4);
	const Elf64_Word *bucket = (const void *)(filter + gnu_hash[2]), *chain = bucket + gnu_hash[0];
	unsigned value = 5381;

	for (const char *c = name; *c; c++)
		value = value * 33 + (unsigned char)*c;
	Elf64_Xword word = filter[value / 64 % gnu_hash[2]];
	if (!(word >> value % 64 & 1) || !(word >> (value >> gnu_hash[3]) % 64 & 1))
		return 0;
	for (unsigned at = bucket[value % gnu_hash[0]]; at; at++) {
		if ((chain[at - gnu_hash[1]] | 1) == (value | 1) && !strcmp(names + symbols[at].st_name, name))
			return at;
		if (chain[at - gnu_hash[1]] & 1)
			break;
	}
	return 0;
}

static const char *version_of(unsigned at)
{
	const Elf64_Verdef *version = definitions;

	for (;;) {
		const Elf64_Verdaux *its = (const void *)((const char *)version + version->vd_aux);
		if (version->vd_ndx == (versions[at] & 0x7fff) && !(version->vd_flags & VER_FLG_BASE))
			return version->vd_hash == elf_hash(names + its->vda_name) ? names + its->vda_name : "wrong hash";
		if (!version->vd_next)
			return "none";
		version = (const void *)((const char *)version + version->vd_next);
	}
}

static void *find(const char *name)
{
	unsigned at = by_hash(name);

	if (at == 0 || at != by_gnu_hash(name)) {
		printf("%s is not found\n", name);
		return NULL;
	}
	printf("%s: type %d, binding %d, version %s\n", name, ELF64_ST_TYPE(symbols[at].st_info),
	       ELF64_ST_BIND(symbols[at].st_info), version_of(at));
	return (void *)(image + symbols[at].st_value);
}

static long nanoseconds(struct timespec time)
{
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static long by_vdso(clockid_t clock)
{
	struct timespec time;

	return vdso_gettime(clock, &time) ? -1 : nanoseconds(time);
}

static long by_call(clockid_t clock)
{
	struct timespec time;

	return syscall(SYS_clock_gettime, clock, &time) ? -1 : nanoseconds(time);
}

static void compare(clockid_t clock)
{
	long backwards = 0, last = by_call(clock), start = last;
	struct timespec ours = {7, 7}, theirs = {8, 8};

	for (int i = 0; i < 4000; i++) {
		long now = i % 2 ? by_call(clock) : by_vdso(clock);
		backwards += now < last;
		last = now;
	}
	printf("clock %d: backwards %ld, %s\n", clock, backwards, last - start < 100000000000 ? "in time" : "too far");
	int result = vdso_getres(clock, &ours), expected = syscall(SYS_clock_getres, clock, &theirs);
	printf("resolution %d %d, %s\n", result, expected, nanoseconds(ours) == nanoseconds(theirs) ? "same" : "different");
	printf("without a place %d\n", vdso_getres(clock, NULL));
}

static long latest, backwards;

static void *look(void *argument)
{
	for (long i = (long)argument; i < 4000; i++) {
		long before = __atomic_load_n(&latest, __ATOMIC_SEQ_CST);
		long now = i % 2 ? by_call(CLOCK_MONOTONIC) : by_vdso(CLOCK_MONOTONIC);

		if (now < before)
			__atomic_add_fetch(&backwards, 1, __ATOMIC_SEQ_CST);
		while (before < now && !__atomic_compare_exchange_n(&latest, &before, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			;
	}
	return NULL;
}

static int is_about(long time, long seconds)
{
	return time >= seconds * 1000000000L && time < (seconds + 30) * 1000000000L;
}

/* A clock that was set shows it at once. */
static void set_clock(void)
{
	struct timespec old, new = {2000000000, 0};
	struct timeval of_day;
	long before = by_call(CLOCK_MONOTONIC);

	syscall(SYS_clock_gettime, CLOCK_REALTIME, &old);
	TRY(syscall(SYS_clock_settime, CLOCK_REALTIME, &new));
	long shown = by_vdso(CLOCK_REALTIME), coarse = by_vdso(CLOCK_REALTIME_COARSE);
	vdso_gettimeofday(&of_day, NULL);
	long seconds = vdso_time(NULL);
	long passed = by_vdso(CLOCK_MONOTONIC) - before;
	long back = nanoseconds(old) + passed;
	old = (struct timespec){back / 1000000000, back % 1000000000};
	TRY(syscall(SYS_clock_settime, CLOCK_REALTIME, &old));
	IS(is_about(shown, 2000000000));
	IS(is_about(coarse, 2000000000));
	IS(is_about(of_day.tv_sec * 1000000000, 2000000000));
	IS(is_about(seconds * 1000000000, 2000000000));
	IS(is_about(by_vdso(CLOCK_REALTIME), old.tv_sec));
	IS(passed >= 0 && passed < 30000000000);
}

/* Finds an area by its name and prints its rights. */
static unsigned long area(const char *name, unsigned long *end)
{
	char line[300], rights[8];
	unsigned long from, to, found = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof line, maps))
		if (strstr(line, name) && sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3) {
			printf("%s %s%s", name, rights, strstr(line, " 00000000 00:00 0     ") ? "\n" : " from a file\n");
			found = from;
			*end = to;
		}
	fclose(maps);
	return found;
}

static void areas(void)
{
	unsigned long data_end = 0, code_end = 0;
	char *data = (char *)area("[vvar]", &data_end), *code = (char *)area("[vdso]", &code_end);
	unsigned long data_length = data_end - (unsigned long)data, code_length = code_end - (unsigned long)code;

	IS(code == image);
	IS(data_end == (unsigned long)code);
	IS(mprotect(data, data_length, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
	IS(mprotect(data, data_length, PROT_READ | PROT_EXEC) == -1 && errno == EACCES);
	int zeros = open("/dev/zero", O_RDONLY);
	IS(read(zeros, data, 8) == -1 && errno == EFAULT);
	close(zeros);
	IS(mremap(data, data_length, data_length + PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
	IS(mremap(code, code_length, code_length + PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
	TRY(CHILD(*(volatile char *)data = 1));
	TRY(CHILD(*(volatile char *)code = 1));
	TRY(CHILD(if (by_vdso(CLOCK_MONOTONIC) < latest) _exit(1); area("[vvar]", &data_end); fflush(stdout)));
	/* A debugger's breakpoint: a private copy. */
	TRY(CHILD(TRY(mprotect(code, code_length, PROT_READ | PROT_WRITE | PROT_EXEC)); code[0] = 1;
		  IS(code[0] == 1); IS(by_vdso(CLOCK_MONOTONIC) >= latest); fflush(stdout)));
	IS(code[0] == 0x7f);
	TRY(CHILD(TRY(mprotect(data, data_length, PROT_NONE)); fflush(stdout); by_vdso(CLOCK_MONOTONIC_COARSE)));
	TRY(CHILD(TRY(munmap(data, data_length + code_length)); IS(area("[vdso]", &code_end) == 0);
		  IS(by_call(CLOCK_MONOTONIC) >= latest); fflush(stdout)));

	/* As a checkpoint is restored: both move, side by side. */
	char *place = mmap(NULL, data_length + code_length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	IS(mremap(data, data_length, data_length, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
	char *to = place + data_length;
	IS(mremap(code, code_length, code_length, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	vdso_gettime = (void *)((char *)vdso_gettime - code + to);
	IS(by_vdso(CLOCK_MONOTONIC) >= latest);
	IS(area("[vdso]", &code_end) == (unsigned long)to);
}

int main(void)
{
	static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
					   CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID,
					   CLOCK_THREAD_CPUTIME_ID};
	struct timespec moment = {5, 5};
	struct timeval of_day, later;
	struct timezone zone = {5, 5};
	pthread_t threads[3];
	unsigned cpu = 99999, node = 99999;
	time_t seconds = 5;

	image = (const char *)getauxval(AT_SYSINFO_EHDR);
	IS(image && (unsigned long)image % PAGE == 0);
	parse();
	vdso_gettime = find("__vdso_clock_gettime");
	vdso_getres = find("__vdso_clock_getres");
	vdso_gettimeofday = find("__vdso_gettimeofday");
	vdso_time = find("__vdso_time");
	vdso_getcpu = find("__vdso_getcpu");
	IS(find("clock_gettime") == vdso_gettime);
	IS(find("clock_getres") == vdso_getres);
	IS(find("gettimeofday") == vdso_gettimeofday);
	IS(find("time") == vdso_time);
	IS(find("getcpu") == vdso_getcpu);
	find("LINUX_2.6");
	IS(by_hash("__vdso_nothing") == 0 && by_gnu_hash("__vdso_nothing") == 0);

	for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++)
		compare(clocks[i]);
	for (clockid_t clock = 12; clock < 16; clock++)
		printf("clock %d: %d %d, ", clock, vdso_gettime(clock, &moment), vdso_getres(clock, &moment));
	printf("\nclock 99: %d %d, clock -1: %d %d\n", vdso_gettime(99, &moment), vdso_getres(99, &moment),
	       vdso_gettime(-1, &moment), vdso_getres(-1, &moment));

	syscall(SYS_gettimeofday, &of_day, NULL);
	TRY(vdso_gettimeofday(&later, &zone));
	printf("zone %d %d\n", zone.tz_minuteswest, zone.tz_dsttime);
	IS(timercmp(&of_day, &later, <=) && later.tv_usec >= 0 && later.tv_usec < 1000000);
	IS(later.tv_sec - of_day.tv_sec < 100);
	TRY(vdso_gettimeofday(NULL, &zone));
	TRY(vdso_gettimeofday(NULL, NULL));
	IS(vdso_time(&seconds) == seconds);
	IS(labs(vdso_time(NULL) - syscall(SYS_time, NULL)) <= 1);
	TRY(vdso_getcpu(&cpu, &node, NULL));
	IS(cpu < 1024 && node == 0);
	TRY(vdso_getcpu(NULL, NULL, NULL));
	cpu_set_t set;
	sched_getaffinity(0, sizeof set, &set);
	vdso_getcpu(&cpu, NULL, NULL);
	IS(CPU_ISSET(cpu, &set));

	for (long i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, look, (void *)i);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	printf("backwards on several CPUs %ld\n", backwards);
	set_clock();
	areas();
	return 0;
}
