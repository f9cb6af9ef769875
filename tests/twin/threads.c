/* Threads: clone(2) by pthreads, mutexes, condition variables, joins, per-thread data and signals. */
#include "twin.h"
#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static long counter, turn;
static __thread long own = 5;
static volatile pid_t handler_thread;

static void *count(void *times)
{
	for (long i = 0; i < (long)times; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
		own++;
	}
	return (void *)own;
}

static void *take_turns(void *me)
{
	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&mutex);
		while (turn % 2 != (long)me)
			pthread_cond_wait(&condition, &mutex);
		turn++;
		pthread_cond_broadcast(&condition);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void *meet(void *unused)
{
	(void)unused;
	return (void *)(long)pthread_barrier_wait(&barrier);
}

static void *identity(void *unused)
{
	(void)unused;
	return (void *)(long)(getpid() != syscall(SYS_gettid));
}

static void handler(int number)
{
	(void)number;
	handler_thread = syscall(SYS_gettid);
}

static void *waits(void *unused)
{
	(void)unused;
	sem_post(&semaphore);
	pause();
	return (void *)(long)(handler_thread == syscall(SYS_gettid));
}

int main(void)
{
	pthread_t threads[8];
	void *result;
	long sum = 0;

	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, count, (void *)1000L);
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], &result);
		sum += (long)result;
	}
	printf("counter %ld, own %ld, of main %ld\n", counter, sum, own);
	for (long i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, take_turns, (void *)i);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	printf("turns %ld\n", turn);
	pthread_barrier_init(&barrier, NULL, 4);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, meet, NULL);
	int serial = 0;
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		serial += result == (void *)(long)PTHREAD_BARRIER_SERIAL_THREAD;
	}
	printf("serial threads %d\n", serial);
	pthread_create(&threads[0], NULL, identity, NULL);
	pthread_join(threads[0], &result);
	printf("own thread id %ld\n", (long)result);

	/* A signal to a thread is handled there; one to the process by whoever does not block it. */
	struct sigaction action = {.sa_handler = handler};
	sigaction(SIGUSR1, &action, NULL);
	sem_init(&semaphore, 0, 0);
	pthread_create(&threads[0], NULL, waits, NULL);
	sem_wait(&semaphore);
	sleep_ms(50);
	pthread_kill(threads[0], SIGUSR1);
	pthread_join(threads[0], &result);
	printf("handled by the thread %ld\n", (long)result);
	pthread_create(&threads[0], NULL, waits, NULL);
	sem_wait(&semaphore);
	sleep_ms(50);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGUSR1);
	pthread_join(threads[0], &result);
	printf("handled by the other %ld\n", (long)result);

	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 30000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	printf("timed wait: %s\n", sem_timedwait(&semaphore, &until) ? strerrorname_np(errno) : "posted");
	pthread_mutex_lock(&mutex);
	printf("timed lock: %s\n", strerrorname_np(pthread_mutex_timedlock(&mutex, &until)));
	/* fork in a process of threads has one; exec ends the others. */
	pthread_create(&threads[0], NULL, waits, NULL);
	sem_wait(&semaphore);
	show_status("fork", CHILD(char name[32]; snprintf(name, sizeof name, "/proc/self/task/%d", getpid());
				  printf("%s\n", access(name, F_OK) ? strerrorname_np(errno) : "one task")));
	show_status("exec", CHILD(pthread_create(&threads[1], NULL, waits, NULL); sem_wait(&semaphore);
				  execl("/bin/echo", "echo", "executed", NULL)));
	show_status("cancel", CHILD(pthread_create(&threads[1], NULL, waits, NULL); sem_wait(&semaphore);
				    pthread_cancel(threads[1]); pthread_join(threads[1], &result);
				    printf("canceled %d\n", result == PTHREAD_CANCELED)));
	return 0;
}
