/* futex(2): wait, wake, requeue, bit sets, time-outs, across processes. */
#include "twin.h"
#include <linux/futex.h>
#include <pthread.h>

static uint32_t *word;

static long futex(uint32_t *at, int operation, uint32_t value, void *time, uint32_t *other, uint32_t last)
{
	return syscall(SYS_futex, at, operation, value, time, other, last);
}

static void *sleeper(void *at)
{
	return (void *)futex(at, FUTEX_WAIT, 0, NULL, NULL, 0);
}

int main(void)
{
	struct timespec little = {0, 30000000}, negative = {-1, 0}, large = {0, 1000000000};
	pthread_t threads[4];
	void *result;

	word = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TRY(futex(word, FUTEX_WAIT, 1, NULL, NULL, 0));
	TRY(futex(word, FUTEX_WAIT, 0, &little, NULL, 0));
	TRY(futex(word, FUTEX_WAIT_PRIVATE, 0, &little, NULL, 0));
	TRY(futex(word, FUTEX_WAIT, 0, &negative, NULL, 0));
	TRY(futex(word, FUTEX_WAIT, 0, &large, NULL, 0));
	TRY(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0));
	TRY(futex((uint32_t *)((char *)word + 1), FUTEX_WAIT, 0, NULL, NULL, 0));
	TRY(futex((uint32_t *)8, FUTEX_WAKE, 1, NULL, NULL, 0));
	TRY(futex((uint32_t *)8, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
	TRY(futex(word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
	TRY(futex(word, FUTEX_WAKE_BITSET, 0, NULL, NULL, 0));
	/* A bit set's time is absolute. */
	struct timespec past = {1, 0};
	TRY(futex(word, FUTEX_WAIT_BITSET, 0, &past, NULL, 1));
	TRY(futex(word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &past, NULL, 1));

	/* Another process wakes us. */
	show_status("wake across processes", CHILD(if (fork() == 0) {
		while (futex(word, FUTEX_WAKE, 10, NULL, NULL, 0) == 0)
			sleep_ms(5);
		_exit(0);
	} TRY(futex(word, FUTEX_WAIT, 0, NULL, NULL, 0))));
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, sleeper, word);
	sleep_ms(100);
	TRY(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0));
	TRY(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)1L, word + 1, 7));
	TRY(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)1L, word + 1, 0));
	TRY(futex(word + 1, FUTEX_WAKE, 10, NULL, NULL, 0));
	TRY(futex(word, FUTEX_WAKE, 10, NULL, NULL, 0));
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		printf("woken %ld\n", (long)result);
	}
	TRY(futex(word, FUTEX_WAKE_OP, 1, (void *)1L, word + 1, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
	printf("%u\n", word[1]);
	struct robust_list_head *head;
	size_t length;
	TRY(syscall(SYS_get_robust_list, 0, &head, &length));
	printf("length %zu\n", length);
	TRY(syscall(SYS_set_robust_list, head, 3));
	return 0;
}
