// A stand-in for the NCCL library and for the CUDA driver, for machines that have no GPU. Device memory is the host's,
// members are threads of one process, and the default stream is a list of what its thread still waits for. It checks
// what it is given as far as the real ones would, and tells nothing about how these behave otherwise.

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

enum Result { Success = 0, InvalidArgument = 4, InvalidUsage = 5, RemoteError = 6, InProgress = 7 };
enum { FLOAT32 = 7, SUM = 0 };
enum { CUDA_SUCCESS = 0, CUDA_ERROR_NOT_READY = 600 };

struct Id {
    char bytes[128];
};

struct Config {
    size_t size;
    unsigned magic, version;
    int blocking;
};

struct Comm;

struct Group {
    int size = 0;
    std::vector<Comm *> members;
    std::map<std::pair<int, int>, std::deque<std::vector<float>>> mail;
    int finalized = 0;
};

struct Comm {
    Group *group;
    int rank;
    bool aborted = false, closing = false;
    // So often it says after each call that it is still underway.
    int lag = 0;
};

static std::mutex lock;
static std::map<std::string, Group> groups;
static int ids = 0;

// What this thread's stream waits for: each says whether it is done.
static thread_local std::vector<std::pair<Comm *, std::function<bool()>>> stream;
static thread_local std::vector<std::function<void()>> grouped;
static thread_local bool in_group = false;

static void post(Comm *comm, int peer, const float *from, size_t count) {
    comm->group->mail[{comm->rank, peer}].emplace_back(from, from + count);
}

static bool take(Comm *comm, int peer, std::vector<float> &into) {
    auto &queue = comm->group->mail[{peer, comm->rank}];
    if (queue.empty()) return false;
    into = std::move(queue.front());
    queue.pop_front();
    return true;
}

static void expect(Comm *comm, int peer, float *into, size_t count) {
    stream.emplace_back(comm, [=] {
        std::vector<float> floats;
        if (!take(comm, peer, floats)) return false;
        if (floats.size() != count) abort();
        std::memcpy(into, floats.data(), count * sizeof(float));
        return true;
    });
}

static Result underway(Comm *comm) {
    comm->lag = 3;
    return InProgress;
}

extern "C" {

Result ncclGetVersion(int *version) {
    const char *wanted = std::getenv("STAND_IN_VERSION");
    *version = wanted ? std::atoi(wanted) : 23203;
    return Success;
}

const char *ncclGetErrorString(Result result) {
    return result == RemoteError ? "remote process exited or there was a network error" : "refused";
}

const char *ncclGetLastError(Comm *) { return ""; }

Result ncclGetUniqueId(Id *id) {
    std::lock_guard<std::mutex> held(lock);
    std::memset(id, 0, sizeof *id);
    std::memcpy(id->bytes, &++ids, sizeof ids);
    return Success;
}

Result ncclCommInitRankConfig(Comm **out, int size, Id id, int rank, Config *config) {
    if (config->magic != 0xcafebeef || config->blocking != 0 || rank < 0 || rank >= size) return InvalidArgument;
    std::lock_guard<std::mutex> held(lock);
    Group &group = groups[std::string(id.bytes, sizeof id.bytes)];
    group.size = size;
    group.members.push_back(*out = new Comm{&group, rank});
    return underway(*out);
}

Result ncclCommGetAsyncError(Comm *comm, Result *state) {
    std::lock_guard<std::mutex> held(lock);
    *state = Success;
    if ((int)comm->group->members.size() < comm->group->size) *state = InProgress;
    if (comm->closing && comm->group->finalized < comm->group->size) *state = InProgress;
    if (comm->lag > 0 && comm->lag--) *state = InProgress;
    for (Comm *member : comm->group->members)
        if (member->aborted) *state = RemoteError;
    return Success;
}

Result ncclCommAbort(Comm *comm) {
    std::lock_guard<std::mutex> held(lock);
    comm->aborted = true;
    return Success;
}

Result ncclCommFinalize(Comm *comm) {
    std::lock_guard<std::mutex> held(lock);
    comm->closing = true;
    comm->group->finalized++;
    return underway(comm);
}

Result ncclCommDestroy(Comm *comm) { return comm->closing ? Success : InvalidUsage; }

Result ncclGroupStart() {
    in_group = true;
    return Success;
}

Result ncclGroupEnd() {
    std::lock_guard<std::mutex> held(lock);
    for (auto &call : grouped) call();
    grouped.clear();
    in_group = false;
    return InProgress;
}

Result ncclSend(const float *from, size_t count, int type, int peer, Comm *comm, void *) {
    if (type != FLOAT32 || !in_group) return InvalidUsage;
    grouped.push_back([=] {
        post(comm, peer, from, count);
        underway(comm);
    });
    return Success;
}

Result ncclRecv(float *into, size_t count, int type, int peer, Comm *comm, void *) {
    if (type != FLOAT32 || !in_group) return InvalidUsage;
    grouped.push_back([=] { expect(comm, peer, into, count); });
    return Success;
}

Result ncclAllGather(const float *from, float *into, size_t count, int type, Comm *comm, void *) {
    if (type != FLOAT32) return InvalidArgument;
    std::lock_guard<std::mutex> held(lock);
    std::memmove(into + comm->rank * count, from, count * sizeof(float));
    for (int peer = 0; peer < comm->group->size; peer++) {
        if (peer == comm->rank) continue;
        post(comm, peer, from, count);
        expect(comm, peer, into + peer * count, count);
    }
    return underway(comm);
}

Result ncclAllReduce(const float *from, float *into, size_t count, int type, int operation, Comm *comm, void *) {
    if (type != FLOAT32 || operation != SUM) return InvalidArgument;
    std::lock_guard<std::mutex> held(lock);
    int size = comm->group->size;
    for (int peer = 0; peer < size; peer++) post(comm, peer, from, count);
    stream.emplace_back(comm, [=] {
        for (int peer = 0; peer < size; peer++)
            if (comm->group->mail[{peer, comm->rank}].empty()) return false;
        std::vector<float> floats;
        for (int peer = 0; peer < size; peer++) {
            take(comm, peer, floats);
            for (size_t i = 0; i < count; i++) into[i] = peer ? into[i] + floats[i] : floats[i];
        }
        return true;
    });
    return underway(comm);
}

int cuInit(unsigned) { return CUDA_SUCCESS; }

int cuDeviceGetCount(int *count) {
    *count = 1;
    return CUDA_SUCCESS;
}

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return CUDA_SUCCESS;
}

int cuDeviceGetAttribute(int *value, int, int) {
    *value = 0;
    return CUDA_SUCCESS;
}

static thread_local void *current = nullptr;

int cuDevicePrimaryCtxRetain(void **context, int) {
    static char primary;
    *context = &primary;
    return CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) { return CUDA_SUCCESS; }

int cuCtxGetCurrent(void **context) {
    *context = current;
    return CUDA_SUCCESS;
}

int cuCtxSetCurrent(void *context) {
    current = context;
    return CUDA_SUCCESS;
}

int cuStreamQuery(void *) {
    std::lock_guard<std::mutex> held(lock);
    while (!stream.empty()) {
        auto &[comm, done] = stream.front();
        if (!comm->aborted && !done()) return CUDA_ERROR_NOT_READY;
        stream.erase(stream.begin());
    }
    return CUDA_SUCCESS;
}
}
