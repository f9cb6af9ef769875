/* fork(2) and memory: private pages part on the first write of either side, shared ones never. */
#include "twin.h"

static char data[8 * 4096] = {1};

static unsigned sum(const char *area, size_t length)
{
	unsigned total = 0;

	for (size_t i = 0; i < length; i++)
		total = total * 31 + (unsigned char)area[i];
	return total;
}

int main(void)
{
	size_t length = 64 * PAGE;
	char *private = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *shared = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char stack[3 * PAGE];

	memset(private, 1, length / 2);
	memset(shared, 2, length / 2);
	memset(stack, 3, sizeof stack);
	memset(data, 4, sizeof data);
	printf("before %u %u %u %u\n", sum(private, length), sum(shared, length), sum(stack, sizeof stack),
	       sum(data, sizeof data));
	show_status("child changes all", CHILD(memset(private + PAGE / 2, 5, length / 2 + PAGE);
					       memset(shared + PAGE / 2, 6, length / 2 + PAGE);
					       memset(stack, 7, sizeof stack); memset(data, 8, sizeof data);
					       printf("child %u %u %u %u\n", sum(private, length), sum(shared, length),
						      sum(stack, sizeof stack), sum(data, sizeof data))));
	printf("after %u %u %u %u\n", sum(private, length), sum(shared, length), sum(stack, sizeof stack),
	       sum(data, sizeof data));

	/* The parent changes while the child waits; a grandchild sees its parent's copy. */
	int go[2], status;
	TRY(pipe(go));
	pid_t child = fork();
	if (child == 0) {
		char byte;
		TRY(read(go[0], &byte, 1));
		printf("child still sees %d\n", private[0]);
		private[0] = 50;
		show_status("grandchild", CHILD(printf("grandchild sees %d\n", private[0]); private[0] = 60));
		printf("child sees %d\n", private[0]);
		_exit(0);
	}
	private[0] = 40;
	write(go[1], "g", 1);
	waitpid(child, &status, 0);
	printf("parent sees %d\n", private[0]);

	/* The kernel's own writes break sharing as well. */
	child = fork();
	if (child == 0) {
		int zero = open("/dev/zero", O_RDONLY);
		TRY(read(zero, private + 100, 5000));
		printf("child %d\n", private[100]);
		_exit(0);
	}
	waitpid(child, &status, 0);
	printf("parent %d\n", private[100]);

	/* A read-only page that is made writable after fork is still shared: the write must copy. */
	mprotect(private, PAGE, PROT_READ);
	show_status("child made it writable", CHILD(mprotect(private, PAGE, PROT_READ | PROT_WRITE); private[0] = 99));
	printf("parent %d\n", private[0]);

	/* Many children of one page. */
	int wrong = 0;
	for (int i = 0; i < 20; i++)
		wrong += WEXITSTATUS(CHILD(private[PAGE] = i; _exit(private[PAGE] == i && private[2 * PAGE] == 5 ? 1 : 0)));
	printf("wrong %d, parent %d\n", wrong, private[PAGE]);
	return 0;
}
