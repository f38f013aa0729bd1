// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's other process: a loop that does what comes through a socket.
 */
#include "fuzz_agent.hpp"

#include "fuzz_arena.hpp"
#include "proc.hpp"

#include <stdexcept>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace selftest
{

Agent::Agent(const Container &container, const std::vector<int> &fds, std::uint32_t first_tag)
{
	int ends[2];

	if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		throw std::runtime_error("socketpair");
	socket_ = Fd(ends[0]);

	const Fd theirs(ends[1]);
	/* At the same place in a huge page each time, as what is mapped where follows. */
	Memory ram = Memory::reserve(pages * page, huge_2m);

	ram.place(0, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

	/* Reserved here, so that its address is known; filled by the child. */
	address_ = ram.address();
	child_ = std::make_unique<Child>([&](Notes &, const ChildSync &sync) {
		const rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};

		/* Not the limit that the sequence may have set to itself by now. */
		::setrlimit(RLIMIT_MEMLOCK, &none);
		for (const int fd : fds)
			::close(fd);
		for (std::size_t i = 0; i < pages; i++)
			fill(ram.bytes(i * page, tag_bytes), static_cast<unsigned>(first_tag + i));
		sync.ready();
		serve(container, theirs.get());
	});
	if (!child_->wait_ready())
		throw std::runtime_error("the other process did not start");
}

void Agent::serve(const Container &container, int socket)
{
	Call call;

	while (::recv(socket, &call, sizeof(call), 0) == sizeof(call)) {
		Result result;

		switch (call.what) {
		case Call::map:
			result = container.map_addr(call.iova, call.vaddr, call.size, call.flags);
			break;
		case Call::unmap:
			result = container.unmap(call.iova, call.size, call.flags);
			break;
		case Call::locked:
			result = {.value = vm_locked_pages()};
			break;
		}
		if (::send(socket, &result, sizeof(result), 0) != sizeof(result))
			return;
	}
}

Result Agent::call(const Call &call) const
{
	Result result;

	if (::send(socket_.get(), &call, sizeof(call), MSG_NOSIGNAL) != sizeof(call) ||
		::recv(socket_.get(), &result, sizeof(result), 0) != sizeof(result))
		throw std::runtime_error("the other process has ended");
	return result;
}

Result Agent::map(
	std::uint64_t iova, std::uint64_t vaddr, std::uint64_t size, std::uint32_t flags) const
{
	return call({Call::map, iova, vaddr, size, flags});
}

Result Agent::unmap(std::uint64_t iova, std::uint64_t size, std::uint32_t flags) const
{
	return call({Call::unmap, iova, 0, size, flags});
}

std::int64_t Agent::vm_locked() const
{
	return call({Call::locked, 0, 0, 0, 0}).value;
}

void Agent::kill()
{
	/* Which kills and waits. */
	child_.reset();
	socket_.reset();
}

} // namespace selftest
