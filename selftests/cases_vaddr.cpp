// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: updating the user address of a mapping (VFIO_DMA_UNMAP_FLAG_VADDR, then
 * VFIO_DMA_MAP_FLAG_VADDR): in one process, and in another one that takes the
 * container over, with its charge.
 */
#include "case.hpp"
#include "proc.hpp"

#include <cstring>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace selftest
{

static constexpr std::uint32_t vaddr_unmap = VFIO_DMA_UNMAP_FLAG_VADDR;
static constexpr std::uint32_t vaddr_map = VFIO_DMA_MAP_FLAG_VADDR;
static constexpr std::size_t pages = 8;
static constexpr std::size_t size = pages * page;

using Vaddr = VfioCase;

TEST_F(Vaddr, InvalidateAndRemap)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size);
	const Memory other = Memory::map(size);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	want("charged.invalid", charged(), pages);
	want_errno("remap", rig.container.map(iova0, other.data(), size, vaddr_map), 0);
	want("charged", charged(), pages);
	want_errno("remap.twice", rig.container.map(iova0, ram.data(), size, vaddr_map), EINVAL);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
}

TEST_F(Vaddr, InvalidateTwice)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want_unmapped("first", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	const Result second = rig.container.unmap(iova0, size, vaddr_unmap);

	want_errno("second", second, EINVAL);
	/* It stays invalid. */
	want_errno("remap", rig.container.map(iova0, ram.data(), size, vaddr_map), 0);
	want_unmapped("third", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	want_errno("all_too", rig.container.unmap(0, 0, vaddr_unmap | VFIO_DMA_UNMAP_FLAG_ALL),
		EINVAL);
}

TEST_F(Vaddr, RemapArguments)
{
	NEED_DEVICES(1);
	covers({"KB24"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(2 * size);
	const auto remap = [&](std::uint64_t iova, std::uint64_t bytes,
				   std::uint32_t flags = vaddr_map, std::uint64_t off = 0) {
		return rig.container.map_addr(iova, ram.address() + off, bytes, flags);
	};

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want_errno("valid", remap(iova0, size), EINVAL);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	want_errno("other_iova", remap(iova0 + 64 * page, size), ENOENT);
	want_errno("before", remap(iova0 - page, size), EINVAL);
	want_errno("inside", remap(iova0 + page, page), EINVAL);
	want_errno("shorter", remap(iova0, size - page), EINVAL);
	want_errno("longer", remap(iova0, size + page), EINVAL);
	want_errno("size_zero", remap(iova0, 0), EINVAL);
	want_errno("vaddr_odd", remap(iova0, size, vaddr_map, 1), EINVAL);
	want_errno("size_odd", remap(iova0, size - 1), EINVAL);
	want_errno("with_read", remap(iova0, size, vaddr_map | VFIO_DMA_MAP_FLAG_READ), EINVAL);
	want_errno("plain_map", rig.container.map(iova0, ram.data(), size), EEXIST);
	/* The address is taken as it is: nobody looks what is there until it is used. */
	want_errno("unmapped_vaddr", rig.container.map_addr(iova0, 0, size, vaddr_map), 0);
	want("charged", charged(), pages);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
}

TEST_F(Vaddr, RangesOfInvalidate)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * size);
	const auto iova = [](std::size_t i) { return iova0 + i * size; };
	const auto valid = [&] {
		std::string text;

		/* A valid mapping refuses a new address; an invalid one takes it, and is
		 * made invalid again. */
		for (std::size_t i = 0; i < 3; i++) {
			const bool ok =
				!rig.container.map(iova(i), ram.at(i * size), size, vaddr_map).ok();

			if (!ok)
				rig.container.unmap(iova(i), size, vaddr_unmap);
			text += ok ? "v" : "-";
		}
		return text;
	};

	for (std::size_t i = 0; i < 3; i++)
		want_errno("map." + std::to_string(i),
			rig.container.map(iova(i), ram.at(i * size), size), 0);
	want("state.0", valid(), "vvv");
	want_errno("bisect", rig.container.unmap(iova(0) + page, size, vaddr_unmap), EINVAL);
	want_errno("bisect_end", rig.container.unmap(iova(0), size + page, vaddr_unmap), EINVAL);
	want("state.1", valid(), "vvv");
	want_unmapped("none", rig.container.unmap(iova(10), size, vaddr_unmap), 0);
	want_unmapped("last", rig.container.unmap(iova(2), size, vaddr_unmap), pages);
	want("state.2", valid(), "vv-");
	/* 0 and 1 are valid, 2 is not: all or nothing */
	want_errno("all_three", rig.container.unmap(iova(0), 3 * size, vaddr_unmap), EINVAL);
	want("state.3", valid(), "vv-");
	want_errno("all_flag", rig.container.unmap(0, 0, vaddr_unmap | VFIO_DMA_UNMAP_FLAG_ALL),
		EINVAL);
	want("state.4", valid(), "vv-");
	want_unmapped("two", rig.container.unmap(iova(0), 2 * size, vaddr_unmap), 2 * pages);
	want("state.5", valid(), "---");
	want_errno("remap", rig.container.map(iova(1), ram.data(), size, vaddr_map), 0);
	want("state.6", valid(), "-v-");
	want("charged", charged(), 3 * pages);
	want_unmapped("unmap_all", rig.container.unmap_all(), 3 * pages);
}

TEST_F(Vaddr, AllFlag)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(2 * size);
	constexpr std::uint32_t flags = vaddr_unmap | VFIO_DMA_UNMAP_FLAG_ALL;

	want_unmapped("none", rig.container.unmap(0, 0, flags), 0);
	want_errno("map.0", rig.container.map(iova0, ram.data(), size), 0);
	want_errno("map.1", rig.container.map(2 * iova0, ram.at(size), size), 0);
	want_errno("with_size", rig.container.unmap(0, size, flags), EINVAL);
	want_errno("with_iova", rig.container.unmap(iova0, 0, flags), EINVAL);
	want_unmapped("all", rig.container.unmap(0, 0, flags), 2 * pages);
	want("charged", charged(), 2 * pages);
	want_errno("remap.0", rig.container.map(iova0, ram.data(), size, vaddr_map), 0);
	want_errno("remap.1", rig.container.map(2 * iova0, ram.data(), size, vaddr_map), 0);
}

/* What else works while an address is invalid. */
TEST_F(Vaddr, OtherCallsMeanwhile)
{
	NEED_DEVICES(2);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size);
	std::uint64_t bitmap = 0;

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	want_errno("get_info", rig.container.info().result, 0);
	want("extension", rig.container.extension(VFIO_UPDATE_VADDR).value, 1);
	want_errno("map.other", rig.container.map(2 * iova0, ram.data(), size), 0);
	want_errno("dirty.start", rig.container.dirty_start(), 0);
	want_errno("dirty.get", rig.container.dirty_get(iova0, size, &bitmap, 8), 0);
	see("dirty.bits", hex(bitmap));
	want_errno("dirty.stop", rig.container.dirty_stop(), 0);
	want_unmapped("unmap.other", rig.container.unmap(2 * iova0, size), pages);

	/* Attaching could have to pin: refused. */
	const Group group = Group::open(env().devices[1].group);

	want_errno("attach", group.set_container(rig.container), EBUSY);
	want_errno("remap", rig.container.map(iova0, ram.data(), size, vaddr_map), 0);
	want_errno("attach.valid", group.set_container(rig.container), 0);
	want_unmapped("invalidate.again", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	want_errno("detach", group.unset_container(), 0);
	/* Unmapping an invalid one ends the state. */
	want_unmapped("unmap.invalid", rig.container.unmap(iova0, size), pages);
	want_errno("attach.gone", group.set_container(rig.container), 0);
	want_errno("detach.gone", group.unset_container(), 0);
}

TEST_F(Vaddr, V1Container)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig(1, VFIO_TYPE1_IOMMU);
	const Memory ram = Memory::map(size);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	want_errno("remap", rig.container.map(iova0, ram.data(), size, vaddr_map), 0);
	want_unmapped("inside", rig.container.unmap(iova0 + page, page, vaddr_unmap), 0);
}

TEST_F(Vaddr, CloseWhileInvalid)
{
	NEED_DEVICES(1);
	{
		const Rig rig = open_rig();
		const Memory ram = Memory::map(size);

		want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
		want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	}
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* The device keeps its mapping all the time: DMA goes on while the address is invalid. */
TEST_F(Vaddr, DmaGoesOn)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const int memfd = make_memfd(size);
	Memory first = Memory::map(size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd);

	fill(first.bytes(0, 512), 1);
	want_errno("map", rig.container.map(iova0, first.data(), size), 0);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	first.reset();

	const Memory second = Memory::map(size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd);

	::close(memfd);
	want("copied", run_copies(rig.engines, {{iova0, iova0 + 3 * page, 512}}), true);
	want("data", filled(second.bytes(3 * page, 512), 1), true);
	want_errno("remap", rig.container.map(iova0, second.data(), size, vaddr_map), 0);
	want("copied.again", run_copies(rig.engines, {{iova0, iova0 + 7 * page, 512}}), true);
	want("data.again", filled(second.bytes(7 * page, 512), 1), true);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
}

static void drop_ipc_lock_and_limit(std::uint64_t bytes)
{
	const rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};

	::setrlimit(RLIMIT_MEMLOCK, &limit);
	/* CAP_IPC_LOCK goes with the user id. */
	if (::syscall(SYS_setresuid, 65534, 65534, 65534))
		throw std::runtime_error("setresuid");
}

/* KB04: the charge moves to the process that gives the new address. */
TEST_F(Vaddr, KB04_OtherProcessTakesOver)
{
	NEED_DEVICES(1);
	covers({"KB04"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	want("parent.before", charged(), pages);

	Child child([&](Notes &seen, const ChildSync &sync) {
		seen.put("VmLck.before", vm_locked_pages());
		seen.put("remap",
			errno_name(rig.container.map(iova0, ram.data(), size, vaddr_map).err));
		seen.put("VmLck.mine", vm_locked_pages());
		sync.ready_and_wait();
		/* The parent has unmapped it: the charge of this process goes down. */
		seen.put("VmLck.after", vm_locked_pages());
	});

	want("child.ready", child.wait_ready(), true);
	want("parent.moved", charged(), 0);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	child.go();
	take("child.", child.finish());
	expect_noted("child.VmLck.before", to_value(0));
	expect_noted("child.remap", to_value("ok"));
	expect_noted("child.VmLck.mine", to_value(pages));
	expect_noted("child.VmLck.after", to_value(0));
	want("parent.after", charged(), 0);
}

/* Back and forth, in THP, and the process that had it exits meanwhile (KB16). */
TEST_F(Vaddr, KB16_TakenOverFromTheDead)
{
	NEED_DEVICES(1);
	covers({"KB04", "KB16"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);

	take("child.", run_child([&](Notes &seen) {
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), size).err));
		seen.put("invalidate", rig.container.unmap(iova0, size, vaddr_unmap).value /
					       static_cast<long>(page));
		seen.put("VmLck", vm_locked_pages());
	}));
	want("before", charged(), 0);
	want_errno("remap", rig.container.map(iova0, ram.data(), size, vaddr_map), 0);
	want("mine", charged(), pages);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	want("after", charged(), 0);
}

/* The new process has no room for the charge: the address stays invalid. */
TEST_F(Vaddr, KB04_OtherProcessOverLimit)
{
	NEED_DEVICES(1);
	covers({"KB04", "KB21"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	take("short.", run_child([&](Notes &seen) {
		drop_ipc_lock_and_limit(size - page);
		seen.put("remap",
			errno_name(rig.container.map(iova0, ram.data(), size, vaddr_map).err));
		seen.put("VmLck", vm_locked_pages());
	}));
	expect_noted("short.remap", to_value("ENOMEM"));
	expect_noted("short.VmLck", to_value(0));
	want("parent.still", charged(), pages);
	take("fits.", run_child([&](Notes &seen) {
		drop_ipc_lock_and_limit(size);
		seen.put("remap",
			errno_name(rig.container.map(iova0, ram.data(), size, vaddr_map).err));
		seen.put("VmLck", vm_locked_pages());
	}));
	expect_noted("fits.remap", to_value("ok"));
	expect_noted("fits.VmLck", to_value(pages));
	want("parent.moved", charged(), 0);
	/* Its owner is dead now. */
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
}

/* A BAR has no charge to move. */
TEST_F(Vaddr, OtherProcessTakesBar)
{
	NEED_DEVICES(1);
	NEED_EDU();
	const Rig rig = open_dma_rig(1);
	const Region bar =
		rig.devices[0].map_region(VFIO_PCI_BAR0_REGION_INDEX, PROT_READ | PROT_WRITE);

	want_errno("map", rig.container.map(iova0, bar.data(), size), 0);
	want_unmapped("invalidate", rig.container.unmap(iova0, size, vaddr_unmap), pages);
	take("child.", run_child([&](Notes &seen) {
		seen.put("remap",
			errno_name(rig.container.map(iova0, bar.data(), size, vaddr_map).err));
		seen.put("VmLck", vm_locked_pages());
	}));
	expect_noted("child.remap", to_value("ok"));
	expect_noted("child.VmLck", to_value(0));
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
}

} // namespace selftest
