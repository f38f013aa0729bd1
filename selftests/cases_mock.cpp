// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: what the backend does for drivers in the kernel (mediated devices),
 * driven through the emulated devices of the test module: pin_pages,
 * unpin_pages, dma_rw, dma_unmap callbacks, dirty pages, accounting. With the
 * machine's real IOMMU where one is there; cases_mock_iommu.cpp has the rest.
 */
#include "mock/mock_rig.hpp"

#include "proc.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <sys/mman.h>
#include <thread>

namespace selftest
{

using namespace mock_device;
using MockPin = MockCase;
using MockUnmap = MockCase;
using MockRw = MockCase;
using MockDirty = MockCase;
using MockContainer = MockCase;
using MockWithIommu = MockCase;

static Memory patterned(std::size_t pages, unsigned seed)
{
	Memory ram = Memory::map(pages * page);

	fill(ram.bytes(0, ram.size()), seed);
	return ram;
}

static std::string log_of(const MockDevice &device)
{
	const vfio_mt_mock_unmap_log log = device.unmap_log();
	std::string text;

	for (std::uint64_t i = 0; i < std::min<std::uint64_t>(log.calls, VFIO_MT_MOCK_NR_LOG); i++)
		text += (i ? " " : "") + hex(log.range[i].iova) + "+" + hex(log.range[i].size);
	return text;
}

/* vfio_pin_pages() */

TEST_F(MockPin, PagesAreTheRightOnes)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(16, 1);
	std::vector<std::byte> data(16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("charged.map", charged(), 0);
	want("pinned.map", pinned(), 0);
	want_answer("pin.one", device.pin(iova0 + 3 * page), "1");
	want("charged.one", charged(), 1);
	want_answer("pin.four", device.pin(iova0 + 8 * page, 4), "4");
	want("charged.five", charged(), 5);
	for (const std::size_t i : {3UL, 8UL, 9UL, 10UL, 11UL})
		want("same." + std::to_string(i),
			device.same_page(iova0 + i * page, ram.at(i * page)), true);

	want_answer(
		"read", device.read_page(iova0 + 8 * page, std::span(data).first(4 * page)), "ok");
	want("read.right", std::equal(data.begin(), data.begin() + 4 * page, ram.at(8 * page)),
		true);
	std::ranges::fill(data, std::byte{0x5a});
	want_answer("write", device.write_page(iova0 + 9 * page + 100, std::span(data).first(200)),
		"ok");
	want("written",
		std::all_of(ram.at(9 * page + 100), ram.at(9 * page + 300),
			[](std::byte b) { return b == std::byte{0x5a}; }),
		true);

	want_errno("unpin.four", device.unpin(iova0 + 8 * page, 4), 0);
	want("charged.unpinned", charged(), 1);
	want_errno("unpin.one", device.unpin(iova0 + 3 * page), 0);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 16);
	want("callbacks", device.unmap_log().calls, 0);
}

TEST_F(MockPin, Backings)
{
	for (const Backing backing :
		{Backing::small, Backing::thp, Backing::hugetlb_2m, Backing::hugetlb_1g,
			Backing::memfd, Backing::memfd_2m, Backing::file, Backing::shared_anon}) {
		const std::string key = std::string(name(backing)) + ".";
		/* Where there are pages of 1 GiB for a test, there is one. */
		const std::size_t size = backing == Backing::hugetlb_1g
						 ? huge_1g
						 : std::max(2 * page_size(backing), 8 * page);

		/* Which huge pages there are is the machine's affair: nothing is recorded. */
		if (lacking(backing, size))
			continue;
		const MockRig rig = open_mock({emulated0});
		const Memory ram = allocate(backing, size);

		populate(ram);
		stamp(ram, 2);
		const std::int64_t before = pinned();
		bool right = rig.container.map(iova0, ram.data(), size).ok();
		/* The last page of one huge page and the first of the next, if there are two. */
		const std::size_t at = size / 2 - page;

		right = right && rig.devices[0].pin(iova0 + at, 2).result == 2 && charged() == 2;
		right = right && rig.devices[0].same_page(iova0 + at, ram.at(at)) &&
			rig.devices[0].same_page(iova0 + at + page, ram.at(at + page));
		right = right && rig.devices[0].unpin(iova0 + at, 2).ok() && charged() == 0;
		right = right && pinned() == before && stamped(ram, 2);
		EXPECT_TRUE(right) << key;
	}
}

TEST_F(MockPin, CountsOfPages)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = Memory::map(600 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("zero", device.pin(iova0, 0), "EINVAL");
	want_answer("too_many", device.pin(iova0, 513), "E2BIG");
	want("charged.refused", charged(), 0);
	want_answer("most", device.pin(iova0, 512), "512");
	want("charged", charged(), 512);
	want_answer("rest", device.pin(iova0 + 512 * page, 88), "88");
	want_answer("beyond", device.pin(iova0 + 599 * page, 2), "EINVAL");
	want("charged.all", charged(), 600);
	want_errno("unpin", device.unpin(iova0, 600), 0);
	want("charged.none", charged(), 0);
}

TEST_F(MockPin, TwiceIsChargedOnce)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(4, 3);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	for (int i = 0; i < 3; i++)
		want_answer("pin." + std::to_string(i), device.pin(iova0, 2), "2");
	want("charged", charged(), 2);
	want("mismatches", device.pin_info().mismatches, 0);
	want("pins", device.pin_info().pins, 6);
	want_errno("unpin.1", device.unpin(iova0, 2), 0);
	want_errno("unpin.2", device.unpin(iova0, 2), 0);
	want("charged.still", charged(), 2);
	want("same", device.same_page(iova0, ram.data()), true);
	want_errno("unpin.3", device.unpin(iova0, 1), 0);
	want("charged.one", charged(), 1);
	want_errno("unpin.4", device.unpin(iova0 + page, 1), 0);
	want("charged.none", charged(), 0);
	want("pinned", pinned(), 0);
}

/* The count belongs to the page of the container, not to the device. */
TEST_F(MockPin, TwoDevicesOnePage)
{
	MockRig rig = open_mock({emulated0, emulated1});
	const Memory ram = patterned(4, 4);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin.0", rig.devices[0].pin(iova0, 4), "4");
	want_answer("pin.1", rig.devices[1].pin(iova0 + 2 * page, 2), "2");
	want("charged", charged(), 4);
	want("same", rig.devices[1].same_page(iova0 + 3 * page, ram.at(3 * page)), true);
	want_errno("unpin.0", rig.devices[0].unpin(iova0, 4), 0);
	want("charged.1", charged(), 2);
	want("same.still", rig.devices[1].same_page(iova0 + 3 * page, ram.at(3 * page)), true);
	rig.devices.pop_back();
	want("charged.closed", charged(), 0);
	want("pinned.closed", pinned(), 0);
}

TEST_F(MockPin, SameMemoryAtTwoIovas)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(4, 5);

	want_errno("map.a", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("map.b", rig.container.map(iova0 + mib, ram.data(), ram.size()), 0);
	want_answer("pin.a", device.pin(iova0, 4), "4");
	want_answer("pin.b", device.pin(iova0 + mib, 4), "4");
	want("charged", charged(), 8);
	want("same",
		device.same_page(iova0, ram.data()) && device.same_page(iova0 + mib, ram.data()),
		true);
	want_errno("unpin.a", device.unpin(iova0, 4), 0);
	want("charged.b", charged(), 4);
}

struct ProtRow {
	const char *name;
	unsigned map;
	unsigned pin;
	const char *expected;
};

using MockPinProt = RowCase<ProtRow>;

static constexpr unsigned rd = VFIO_DMA_MAP_FLAG_READ;
static constexpr unsigned wr = VFIO_DMA_MAP_FLAG_WRITE;

class MockProt : public MockCase, public testing::WithParamInterface<ProtRow>
{
};

TEST_P(MockProt, Pin)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(4, 6);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size(), GetParam().map), 0);
	want_answer("pin", rig.devices[0].pin(iova0, 2, GetParam().pin), GetParam().expected);
	want("charged", charged(), std::string(GetParam().expected) == "2" ? 2 : 0);
}

INSTANTIATE_TEST_SUITE_P(Table, MockProt,
	testing::Values(ProtRow{"ro_r", rd, rd, "2"}, ProtRow{"ro_w", rd, wr, "EPERM"},
		ProtRow{"ro_rw", rd, rd | wr, "EPERM"}, ProtRow{"ro_none", rd, 0, "2"},
		ProtRow{"wo_r", wr, rd, "EPERM"}, ProtRow{"wo_w", wr, wr, "2"},
		ProtRow{"wo_rw", wr, rd | wr, "EPERM"}, ProtRow{"rw_r", rd | wr, rd, "2"},
		ProtRow{"rw_w", rd | wr, wr, "2"}, ProtRow{"rw_rw", rd | wr, rd | wr, "2"},
		ProtRow{"rw_cache", rd | wr, rd | wr | VFIO_MT_MOCK_CACHE, "EPERM"}),
	row_name<ProtRow>);

TEST_F(MockPin, NotMapped)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(4, 7);

	want_answer("empty", device.pin(iova0), "EINVAL");
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("before", device.pin(iova0 - page), "EINVAL");
	want_answer("after", device.pin(iova0 + 4 * page), "EINVAL");
	const MockAnswer partly = device.pin(iova0 + 2 * page, 4);

	want_answer("partly", partly, "EINVAL");
	/* Entries 0 to 2 are cleared, 3 was never reached. */
	see("partly.entries_left", partly.pages);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);

	/* What was pinned before stays, with its count. */
	want_answer("pin", device.pin(iova0 + 3 * page), "1");
	want_answer("partly.again", device.pin(iova0 + 2 * page, 4), "EINVAL");
	want("charged.pinned", charged(), 1);
	want("same", device.same_page(iova0 + 3 * page, ram.at(3 * page)), true);
	want_errno("unpin", device.unpin(iova0 + 3 * page), 0);
	want("charged.none", charged(), 0);
}

TEST_F(MockPin, AcrossMappings)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory one = patterned(2, 8), two = patterned(2, 9), three = patterned(2, 10);

	want_errno("map.1", rig.container.map(iova0, one.data(), one.size()), 0);
	want_errno("map.2", rig.container.map(iova0 + 2 * page, two.data(), two.size()), 0);
	want_errno("map.3", rig.container.map(iova0 + 4 * page, three.data(), three.size(), rd), 0);
	want_answer("pin", device.pin(iova0 + page, 4, rd), "4");
	want("charged", charged(), 4);
	want("same.1", device.same_page(iova0 + page, one.at(page)), true);
	want("same.2", device.same_page(iova0 + 2 * page, two.data()), true);
	want("same.3", device.same_page(iova0 + 3 * page, two.at(page)), true);
	want("same.4", device.same_page(iova0 + 4 * page, three.data()), true);
	want_errno("unpin", device.unpin(iova0 + page, 4), 0);
	/* The third is read-only: nothing stays of the first two. */
	want_answer("pin.write", device.pin(iova0 + page, 4), "EPERM");
	want("charged.none", charged(), 0);
}

TEST_F(MockPin, Version1Refuses)
{
	const MockRig rig = open_mock({emulated0}, VFIO_TYPE1_IOMMU);
	const Memory ram = patterned(4, 11);
	std::vector<std::byte> data(page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin", rig.devices[0].pin(iova0), "EACCES");
	want_answer("rw", rig.devices[0].read(iova0, data), "ok");
	want("rw.right", filled(data, 11), true);
	want_errno("dirty", rig.container.dirty_start(), EACCES);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 4);
}

TEST_F(MockPin, NobodyCanBeAskedToUnpin)
{
	MockRig rig = open_mock({plain0, plain1});
	const Memory ram = patterned(4, 12);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin", rig.devices[0].pin(iova0), "EINVAL");
	want("charged", charged(), 0);
	/*
	 * A device of the container with the callback is enough, whoever pins. From 6.2
	 * on, VFIO itself wants it to be the one that pins.
	 */
	const bool any = kernel_before(6, 2);

	want_errno("add", add_group(rig, emulated0), 0);
	want_answer("pin.group_only", rig.devices[0].pin(iova0), "EINVAL");
	{
		const MockDevice other = open_device(rig.groups[2], emulated0);

		want_answer("pin.with_other", rig.devices[0].pin(iova0), any ? "1" : "EINVAL");
		want("charged.with_other", charged(), any ? 1 : 0);
		want_errno("unpin", rig.devices[0].unpin(iova0), any ? 0 : ENOENT);
	}
	want_answer("pin.again_without", rig.devices[0].pin(iova0), "EINVAL");
	want("charged.none", charged(), 0);
}

TEST_F(MockPin, CloseUnpins)
{
	MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(8, 13);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin", rig.devices[0].pin(iova0, 8), "8");
	want("charged", charged(), 8);
	rig.devices.clear();
	want("charged.closed", charged(), 0);
	want("pinned.closed", pinned(), 0);
	rig.devices.push_back(open_device(rig.groups[0], emulated0));
	want_answer("pin.again", rig.devices[0].pin(iova0, 8), "8");
	want("charged.again", charged(), 8);
	rig.close();
	want("charged.end", charged(), 0);
}

/* It is the page that counts; one of these is the last that a PMD can map. */
TEST_F(MockPin, OffsetInAPage)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(512, 47);
	bool right = true;

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	want_answer("pin", device.pin(iova0 + 5 * page + 100), "1");
	want("charged", charged(), 1);
	want_dirty("dirty", rig.container, 512, "5");
	want_errno("unpin", device.unpin(iova0 + 5 * page + 100), 0);
	for (std::size_t at = page - 1; at < ram.size(); at += page) {
		right = right && device.pin(iova0 + at).result == 1 && charged() == 1;
		right = right && device.same_page(iova0 + at, ram.at(at & -page));
		right = right && device.unpin(iova0 + at).ok() && charged() == 0;
	}
	want("right", right, true);
	want("pinned", pinned(), 0);
}

/* An unpin of pages that are mapped but not pinned is tolerated. */
TEST_F(MockPin, UnpinOfWhatIsNotPinned)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(8, 14);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("unpin", rig.devices[0].unpin(iova0, 8, VFIO_MT_MOCK_PIN_RAW), 0);
	want("charged", charged(), 0);
	want_answer("pin", rig.devices[0].pin(iova0 + 2 * page, 2), "2");
	want_errno("unpin.more", rig.devices[0].unpin(iova0, 8, VFIO_MT_MOCK_PIN_RAW), 0);
	want("charged.none", charged(), 0);
	want("pinned", pinned(), 0);
}

TEST_F(MockPin, KernelThread)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(8, 15);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin", rig.devices[0].pin(iova0, 8, mock_rw, VFIO_MT_MOCK_WORKER), "8");
	want("charged", charged(), 8);
	bool same = true;
	for (std::size_t i = 0; i < 8; i++)
		same = same && rig.devices[0].same_page(iova0 + i * page, ram.at(i * page));
	want("same", same, true);
	want_errno("unpin", rig.devices[0].unpin(iova0, 8, 0, VFIO_MT_MOCK_WORKER), 0);
	want("charged.none", charged(), 0);
}

/* The memory of who mapped is pinned and charged, whoever asks for it. */
TEST_F(MockPin, OtherProcessAsks)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(8, 16);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	const auto before = charged();
	Child child([&](Notes &seen, const ChildSync &sync) {
		const auto mine = vm_locked_pages();

		seen.put("pin", answer(rig.devices[0].pin(iova0, 4).result));
		seen.put("charged", vm_locked_pages() - mine);
		sync.ready_and_wait();
		seen.put("unpin", errno_name(rig.devices[0].unpin(iova0, 2).err));
		seen.put("charged.unpinned", vm_locked_pages() - mine);
	});

	want("ready", child.wait_ready(), true);
	want("charged", charged() - before, 4);
	/* The child may have caused copies of pages, but the mapper's are pinned. */
	want("same", rig.devices[0].same_page(iova0 + page, ram.at(page)), true);
	child.go();
	take("child.", child.finish());
	expect_noted("child.pin", std::string("4"));
	expect_noted("child.charged", std::int64_t{0});
	want("charged.unpinned", charged() - before, 2);
}

/* KB16: the mapper is gone, the container lives on. */
TEST_F(MockPin, KB16_MapperIsGone)
{
	covers({"KB16"});
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	std::vector<std::byte> data(page);
	Child child([&](Notes &seen, const ChildSync &sync) {
		const Memory ram = patterned(8, 17);

		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), ram.size()).err));
		seen.put("pin", answer(device.pin(iova0, 2).result));
		sync.ready_and_wait();
	});

	want("ready", child.wait_ready(), true);
	want("charged", charged(), 0);
	want_answer("pin", device.pin(iova0 + 2 * page, 2), "2");
	want_answer("read", device.read(iova0, data), "EFAULT");
	want_answer("read.worker", device.read(iova0, data, VFIO_MT_MOCK_WORKER), "ok");
	want("read.right", filled(data, 17), true);
	child.go();
	take("child.", child.finish());

	want_answer("gone.pin", device.pin(iova0 + 4 * page), "ENODEV");
	want_answer("gone.pin_again", device.pin(iova0), "1");
	want_answer("gone.read", device.read(iova0, data), "EPERM");
	want_answer("gone.read.worker", device.read(iova0, data, VFIO_MT_MOCK_WORKER), "EPERM");
	/* The pinned page outlives its process. */
	std::ranges::fill(data, std::byte{});
	want_answer("gone.page", device.read_page(iova0, data), "ok");
	want("gone.page.right", filled(data, 17), true);
	want_unmapped("unmap", rig.container.unmap(iova0, 8 * page), 8);
	want("calls", log_of(device), hex(iova0) + "+0x8000");
	want("pinned", pinned(), 0);
}

TEST_F(MockPin, NothingThere)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	Memory area = Memory::map(8 * page);

	area.punch(2 * page, page);
	::mprotect(area.at(4 * page), page, PROT_NONE);
	::mprotect(area.at(6 * page), page, PROT_READ);
	/* Nothing is looked at when it is mapped. */
	want_errno("map", rig.container.map(iova0, area.data(), 8 * page), 0);
	want_errno("map.ro", rig.container.map(iova0 + mib, area.data(), 8 * page, rd), 0);
	want_answer("hole", device.pin(iova0 + 2 * page), "EFAULT");
	want_answer("none", device.pin(iova0 + 4 * page), "EFAULT");
	want_answer("ro", device.pin(iova0 + 6 * page), "EFAULT");
	/* The mapping permits to write, and then it is pinned for writing, always. */
	want_answer("ro.read", device.pin(iova0 + 6 * page, 1, rd), "EFAULT");
	want_answer("ro.ro", device.pin(iova0 + mib + 6 * page, 1, rd), "1");
	want_answer("run", device.pin(iova0, 8), "EFAULT");
	see("charged", charged());
	want_errno("unpin", device.unpin(iova0 + mib + 6 * page), 0);
	want("charged.none", charged(), 0);
}

/* KB12: the zero page is not charged, if there is one, and its pins are not leaked. */
TEST_F(MockPin, KB12_ZeroPage)
{
	covers({"KB12"});
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = Memory::map(4 * page);

	::madvise(ram.data(), ram.size(), MADV_NOHUGEPAGE);
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size(), rd), 0);
	want_answer("pin", device.pin(iova0, 4, rd), "4");
	want("charged", charged(), charge_of_zero_pages(4));
	want("pinned", pinned(), charge_of_zero_pages(4));
	want("zero", device.zero_page(iova0), !charge_of_zero_pages(4));
	want_answer("pin.again", device.pin(iova0, 4, rd), "4");
	want_errno("unpin", device.unpin(iova0, 4), 0);
	want_errno("unpin.again", device.unpin(iova0, 4), 0);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
}

/* KB02: memory of a device, VM_PFNMAP. Not charged. */
TEST_F(MockPin, KB02_DeviceMemory)
{
	covers({"KB02"});
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory lazy = mock().memory(VFIO_MT_MOCK_MEM_LAZY, 8 * page);
	const Memory eager = mock().memory(VFIO_MT_MOCK_MEM_EAGER, 8 * page);
	const Memory ro = mock().memory(VFIO_MT_MOCK_MEM_LAZY, 8 * page, PROT_READ);
	const Memory no = mock().memory(VFIO_MT_MOCK_MEM_UNRESERVED, 8 * page);
	const Memory pages = mock().memory(VFIO_MT_MOCK_MEM_PAGES, 8 * page);
	std::vector<std::byte> data(page);
	std::uint64_t iova = iova0;

	fill(eager.bytes(0, eager.size()), 18);
	for (const Memory *m : {&lazy, &eager, &ro, &no, &pages}) {
		want_errno("map." + hex(iova), rig.container.map(iova, m->data(), 8 * page), 0);
		iova += mib;
	}
	want_answer("lazy", device.pin(iova0 + page, 2), "2");
	want_answer("lazy.read", device.read_page(iova0 + page, data), "ok");
	want("lazy.right", std::equal(data.begin(), data.end(), eager.at(page)), true);
	want_answer("eager", device.pin(iova0 + mib, 8), "8");
	want_answer("ro", device.pin(iova0 + 2 * mib), "EFAULT");
	want_answer("unreserved", device.pin(iova0 + 3 * mib), "EFAULT");
	want("charged", charged(), 0);
	want_answer("pages", device.pin(iova0 + 4 * mib, 8), "8");
	want("charged.pages", charged(), 8);

	/* The device's memory is switched off. */
	mock().zap(VFIO_MT_MOCK_MEM_LAZY, VFIO_MT_MOCK_MEM_SIZE, true);
	want_answer("off.new", device.pin(iova0 + 5 * page), "EFAULT");
	want_answer("off.old", device.pin(iova0 + page), "1");
	want_answer("off.rw", device.read(iova0 + 5 * page, data), "EFAULT");
	mock().zap(VFIO_MT_MOCK_MEM_LAZY, 0, false);
	want_answer("on.new", device.pin(iova0 + 5 * page), "1");
	want_answer("on.rw", device.read(iova0 + 5 * page, data), "ok");
	want_unmapped("unmap_all", rig.container.unmap_all(), 40);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
}

/* KB21: the limit is that of the process that mapped. */
TEST_F(MockPin, KB21_Limit)
{
	covers({"KB21"});
	MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Notes child = run_child([&](Notes &seen) {
		const Memory ram = patterned(16, 19);
		const auto before = vm_locked_pages();

		limit_locked_memory(6);
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), ram.size()).err));
		seen.put("pin.4", answer(device.pin(iova0, 4).result));
		seen.put("pin.over", answer(device.pin(iova0 + 4 * page, 3).result));
		seen.put("charged.over", vm_locked_pages() - before);
		seen.put("pin.fit", answer(device.pin(iova0 + 4 * page, 2).result));
		seen.put("charged.fit", vm_locked_pages() - before);
		/* Pages that are pinned already cost nothing. */
		seen.put("pin.again", answer(device.pin(iova0, 6).result));
		seen.put("pin.one_more", answer(device.pin(iova0 + 6 * page).result));
		seen.put("pin.worker",
			answer(device.pin(iova0 + 6 * page, 1, mock_rw, VFIO_MT_MOCK_WORKER)
					.result));
		seen.put("unpin", errno_name(device.unpin(iova0 + page).err));
		seen.put("pin.still_full", answer(device.pin(iova0 + 6 * page).result));
		seen.put("unpin.again", errno_name(device.unpin(iova0 + page).err));
		seen.put("pin.room", answer(device.pin(iova0 + 6 * page).result));
		seen.put("charged.end", vm_locked_pages() - before);
		seen.put("unmap", errno_name(rig.container.unmap(iova0, ram.size()).err));
		seen.put("charged.unmapped", vm_locked_pages() - before);
	});

	take("", child);
	expect_noted("pin.4", std::string("4"));
	expect_noted("pin.over", std::string("ENOMEM"));
	expect_noted("charged.over", std::int64_t{4});
	expect_noted("pin.fit", std::string("2"));
	expect_noted("pin.again", std::string("6"));
	expect_noted("pin.one_more", std::string("ENOMEM"));
	expect_noted("pin.worker", std::string("ENOMEM"));
	expect_noted("pin.still_full", std::string("ENOMEM"));
	expect_noted("pin.room", std::string("1"));
	expect_noted("charged.end", std::int64_t{6});
	expect_noted("charged.unmapped", std::int64_t{0});
}

/* CAP_IPC_LOCK counts when the memory is mapped, not when it is pinned. */
TEST_F(MockPin, KB21_CapabilityOfTheMapper)
{
	covers({"KB21"});
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];

	take("", run_child([&](Notes &seen) {
		const Memory ram = patterned(8, 20);

		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), 4 * page).err));
		limit_locked_memory(2);
		seen.put("map.limited",
			errno_name(rig.container.map(iova0 + mib, ram.data(), 4 * page).err));
		seen.put("pin", answer(device.pin(iova0, 4).result));
		seen.put("pin.limited", answer(device.pin(iova0 + mib).result));
		seen.put("unmap_all", errno_name(rig.container.unmap_all().err));
	}));
	expect_noted("pin", std::string("4"));
	expect_noted("pin.limited", std::string("ENOMEM"));
}

TEST_F(MockPin, ManyThreads)
{
	const MockRig rig = open_mock({emulated0, emulated1});
	const Memory ram = patterned(64, 21);
	std::array<std::string, 4> wrong;
	std::vector<std::thread> threads;

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	for (unsigned t = 0; t < wrong.size(); t++)
		threads.emplace_back([&, t] {
			const MockDevice &device = rig.devices[t % 2];
			unsigned random = t + 1;

			for (int i = 0; i < 200; i++) {
				random = random * 1103515245 + 12345;
				const unsigned first = random / 65536 % 56;
				const int n = static_cast<int>(random / 1024 % 8) + 1;
				const std::uint64_t iova = iova0 + first * page;
				const MockAnswer pin = device.pin(iova, n);

				if (pin.result != n)
					wrong[t] += " pin " + answer(pin.result);
				else if (!device.same_page(iova, ram.at(first * page)))
					wrong[t] += " page";
				if (pin.result == n && !device.unpin(iova, n).ok())
					wrong[t] += " unpin";
			}
		});
	for (auto &thread : threads)
		thread.join();
	for (unsigned t = 0; t < wrong.size(); t++)
		want("wrong." + std::to_string(t), wrong[t], "");
	want("mismatches",
		rig.devices[0].pin_info().mismatches + rig.devices[1].pin_info().mismatches, 0);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	want("contents", filled(ram.bytes(0, ram.size()), 21), true);
}

/* dma_unmap */

TEST_F(MockUnmap, PinnedPagesAreAskedFor)
{
	const MockRig rig = open_mock({emulated0, emulated1});
	const Memory a = patterned(16, 22), b = patterned(16, 23);

	want_errno("map.a", rig.container.map(iova0, a.data(), a.size()), 0);
	want_errno("map.b", rig.container.map(iova0 + mib, b.data(), b.size()), 0);
	want_answer("pin.a", rig.devices[0].pin(iova0 + 4 * page, 3), "3");
	want_answer("pin.a.again", rig.devices[0].pin(iova0 + 4 * page, 1), "1");
	want_answer("pin.b", rig.devices[0].pin(iova0 + mib, 2), "2");
	want("charged", charged(), 5);
	want_unmapped("unmap.a", rig.container.unmap(iova0, a.size()), 16);
	want("charged.a", charged(), 2);
	const vfio_mt_mock_unmap_log first = rig.devices[0].unmap_log();
	const vfio_mt_mock_unmap_log second = rig.devices[1].unmap_log();

	want("calls.first", first.calls, 1);
	want("range.first", hex(first.range[0].iova) + "+" + hex(first.range[0].size),
		hex(iova0) + "+0x10000");
	want("unpinned", first.unpinned, 4);
	/* All devices of the container are asked, also those without pins. */
	want("calls.second", second.calls, 1);
	want("pins", rig.devices[0].pin_info().pins, 2);
	want_errno("unpin.b", rig.devices[0].unpin(iova0 + mib, 2), 0);
	want_unmapped("unmap.b", rig.container.unmap(iova0 + mib, b.size()), 16);
	want("calls.none", rig.devices[0].unmap_log().calls, 0);
	want("charged.none", charged(), 0);
}

TEST_F(MockUnmap, AsksAgain)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(4, 24);

	for (const unsigned ignore : {1U, 5U}) {
		const std::string key = std::to_string(ignore) + ".";

		want_errno(key + "map", rig.container.map(iova0, ram.data(), ram.size()), 0);
		want_answer(key + "pin", rig.devices[0].pin(iova0, 4), "4");
		rig.devices[0].on_unmap(ignore, false);
		want_unmapped(key + "unmap", rig.container.unmap(iova0, ram.size()), 4);
		want(key + "calls", rig.devices[0].unmap_log().calls, ignore + 1);
		want(key + "charged", charged(), 0);
	}
}

TEST_F(MockUnmap, AnotherThreadUnpins)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(4, 25);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin", rig.devices[0].pin(iova0, 4), "4");
	rig.devices[0].on_unmap(0, true);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 4);
	want("calls", rig.devices[0].unmap_log().calls, 1);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

TEST_F(MockUnmap, SeveralMappings)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(32, 26);
	const auto prepare = [&](const std::string &key) {
		for (std::size_t i = 0; i < 4; i++)
			want_errno(key + "map." + std::to_string(i),
				rig.container.map(
					iova0 + i * 8 * page, ram.at(i * 8 * page), 8 * page),
				0);
		want_answer(key + "pin.0", rig.devices[0].pin(iova0 + page), "1");
		want_answer(key + "pin.23", rig.devices[0].pin(iova0 + 23 * page, 2), "2");
		want(key + "charged", charged(), 3);
	};

	prepare("range.");
	want_unmapped("range.unmap", rig.container.unmap(iova0, 32 * page), 32);
	want("range.log", log_of(rig.devices[0]),
		hex(iova0) + "+0x8000 " + hex(iova0 + 16 * page) + "+0x8000 " +
			hex(iova0 + 24 * page) + "+0x8000");
	prepare("all.");
	want_unmapped("all.unmap", rig.container.unmap_all(), 32);
	want("all.log", log_of(rig.devices[0]),
		hex(iova0) + "+0x8000 " + hex(iova0 + 16 * page) + "+0x8000 " +
			hex(iova0 + 24 * page) + "+0x8000");
	prepare("split.");
	want_errno("split.unmap", rig.container.unmap(iova0 + 8 * page, 12 * page), EINVAL);
	want("split.log", log_of(rig.devices[0]), "");
	want("split.still_charged", charged(), 3);
}

/* KB18: pins of a range that is being unmapped, while more are made. */
TEST_F(MockUnmap, KB18_PinningMeanwhile)
{
	covers({"KB18"});
	const MockRig rig = open_mock({emulated0, emulated1});
	const Memory ram = patterned(16, 27);
	std::atomic<bool> stop = false;
	std::atomic<int> wrong_pin = 0, pins = 0;
	int wrong_map = 0, wrong_unmap = 0;
	const auto pinner = [&](const MockDevice &device) {
		while (!stop) {
			const MockAnswer pinned = device.pin(iova0 + 2 * page, 4);

			if (pinned.result != 4 && pinned.result != -EINVAL)
				wrong_pin = pinned.result;
			pins += pinned.result == 4;
			/* dma_unmap may have taken them meanwhile. */
			device.unpin(iova0 + 2 * page, 4);
			/* The stock driver gives up (BUG) when it finds pins again ten times. */
			std::this_thread::sleep_for(std::chrono::microseconds(200));
		}
	};
	/* One at a time unmaps: the stock driver deadlocks with two, see the note below. */
	std::thread one([&] { pinner(rig.devices[0]); });
	std::thread two([&] { pinner(rig.devices[1]); });

	/* At least until a pin came in between. */
	for (int i = 0; i < 200 || (i < 20000 && !pins); i++) {
		wrong_map += !rig.container.map(iova0, ram.data(), ram.size()).ok();
		const Result unmapped = rig.container.unmap(iova0, ram.size());

		wrong_unmap += !unmapped.ok() || unmapped.value != static_cast<long>(ram.size());
	}
	stop = true;
	one.join();
	two.join();
	want("pin", answer(wrong_pin), "ok");
	want("pinned.some", pins > 0, true);
	want("wrong.map", wrong_map, 0);
	want("wrong.unmap", wrong_unmap, 0);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/*
 * KB19: two threads unmap pinned memory. The stock driver takes its list of
 * devices with its own lock held, and then asks the devices, which need that
 * lock to unpin, with the list locked: a deadlock.
 */
TEST_F(MockUnmap, KB19_TwoThreads)
{
	covers({"KB19"});
	NOT_ON_STOCK("it deadlocks when two threads unmap pinned memory");
	const MockRig rig = open_mock({emulated0, emulated1});
	std::atomic<int> wrong = 0;
	std::vector<std::thread> threads;

	for (std::size_t t = 0; t < 2; t++)
		threads.emplace_back([&, t] {
			const Memory ram = patterned(16, 28);
			const std::uint64_t iova = iova0 + t * mib;

			for (int i = 0; i < 300; i++) {
				const bool right =
					rig.container.map(iova, ram.data(), ram.size()).ok() &&
					rig.devices[t].pin(iova, 16).result == 16 &&
					rig.container.unmap(iova, ram.size()).value ==
						static_cast<long>(ram.size());

				wrong += !right;
			}
		});
	for (auto &thread : threads)
		thread.join();
	want("wrong", wrong.load(), 0);
	want("charged", charged(), 0);
}

/* vfio_dma_rw() */

TEST_F(MockRw, Copies)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory one = patterned(4, 29), two = patterned(4, 30);
	std::vector<std::byte> data(8 * page), expected(8 * page);

	want_errno("map.1", rig.container.map(iova0, one.data(), one.size()), 0);
	want_errno("map.2", rig.container.map(iova0 + one.size(), two.data(), two.size()), 0);
	std::copy(one.data(), one.at(one.size()), expected.begin());
	std::copy(two.data(), two.at(two.size()), expected.begin() + 4 * page);
	for (const unsigned context : {VFIO_MT_MOCK_CALLER, VFIO_MT_MOCK_WORKER}) {
		const std::string key = context ? "worker." : "caller.";

		std::ranges::fill(data, std::byte{});
		want_answer(key + "read", device.read(iova0, data, context), "ok");
		want(key + "read.right", data == expected, true);
		/* Not aligned, over the end of a page and of a mapping */
		auto some = std::span(data).subspan(4 * page - 33, 100);

		std::ranges::fill(some, std::byte{0xee});
		std::copy(some.begin(), some.end(), expected.begin() + 4 * page - 33);
		want_answer(
			key + "write", device.write(iova0 + 4 * page - 33, some, context), "ok");
		want(key + "written",
			std::equal(one.data(), one.at(one.size()), expected.begin()) &&
				std::equal(two.data(), two.at(two.size()),
					expected.begin() + 4 * page),
			true);
		std::ranges::fill(some, std::byte(context));
		want_answer(
			key + "one_byte", device.write(iova0 + 7, some.first(1), context), "ok");
		expected[7] = std::byte(context);
		want(key + "one_byte.right", one.data()[7] == expected[7], true);
	}
	want_answer("nothing", device.read(iova0, {}), "EINVAL");
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

struct RwProtRow {
	const char *name;
	unsigned map;
	const char *read;
	const char *write;
};

class MockRwProt : public MockCase, public testing::WithParamInterface<RwProtRow>
{
};

TEST_P(MockRwProt, Permissions)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(1, 31);
	std::vector<std::byte> data(page, std::byte{0x11});

	want_errno("map", rig.container.map(iova0, ram.data(), page, GetParam().map), 0);
	want_answer("write", rig.devices[0].write(iova0, data), GetParam().write);
	want("unchanged", filled(ram.bytes(0, page), 31), std::string(GetParam().write) != "ok");
	want_answer("read", rig.devices[0].read(iova0, data), GetParam().read);
}

/* A write needs the permission to read, too. */
INSTANTIATE_TEST_SUITE_P(Table, MockRwProt,
	testing::Values(RwProtRow{"ro", rd, "ok", "EPERM"}, RwProtRow{"wo", wr, "EPERM", "EPERM"},
		RwProtRow{"rw", rd | wr, "ok", "ok"}),
	row_name<RwProtRow>);

TEST_F(MockRw, NotMapped)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	Memory ram = patterned(8, 32);
	std::vector<std::byte> data(4 * page, std::byte{0x22});

	want_answer("empty", device.read(iova0, data), "EINVAL");
	want_errno("map", rig.container.map(iova0, ram.data(), 4 * page), 0);
	want_answer("before", device.write(iova0 - page, data), "EINVAL");
	want_answer("end", device.write(iova0 + 2 * page, data), "EINVAL");
	/* What comes before the end of the mapping is done. */
	want("end.first_half", ram.data()[2 * page] == std::byte{0x22}, true);
	want("end.before", filled(ram.bytes(0, 2 * page), 32), true);

	ram.punch(6 * page, page);
	want_errno("map.hole", rig.container.map(iova0 + mib, ram.at(4 * page), 4 * page), 0);
	want_answer("hole", device.read(iova0 + mib, data), "EFAULT");
	want_answer("hole.worker", device.read(iova0 + mib, data, VFIO_MT_MOCK_WORKER), "EFAULT");
	want_answer("hole.before", device.read(iova0 + mib, std::span(data).first(2 * page)), "ok");
	::mprotect(ram.at(4 * page), page, PROT_READ);
	want_answer("ro.write", device.write(iova0 + mib, std::span(data).first(page)), "EFAULT");
	want_answer("ro.read", device.read(iova0 + mib, std::span(data).first(page)), "ok");
}

TEST_F(MockRw, FaultsInMemory)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = Memory::map(512 * page);
	std::vector<std::byte> data(ram.size());

	fill(data, 33);
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("write", rig.devices[0].write(iova0, data), "ok");
	want("written", filled(ram.bytes(0, ram.size()), 33), true);
	want_answer("write.worker", rig.devices[0].write(iova0, data, VFIO_MT_MOCK_WORKER), "ok");
	want("charged", charged(), 0);
}

/* Only the process that mapped, or a kernel thread in its place. */
TEST_F(MockRw, OtherProcessAsks)
{
	const MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(1, 34);

	want_errno("map", rig.container.map(iova0, ram.data(), page), 0);
	take("", run_child([&](Notes &seen) {
		std::vector<std::byte> data(page);

		seen.put("read", answer(rig.devices[0].read(iova0, data).result));
		seen.put("write", answer(rig.devices[0].write(iova0, data).result));
		seen.put("worker",
			answer(rig.devices[0].read(iova0, data, VFIO_MT_MOCK_WORKER).result));
		seen.put("worker.right", filled(data, 34));
	}));
	expect_noted("read", std::string("EFAULT"));
	expect_noted("write", std::string("EFAULT"));
	expect_noted("worker", std::string("ok"));
	expect_noted("worker.right", true);
	want("unchanged", filled(ram.bytes(0, page), 34), true);
}

TEST_F(MockRw, WithoutCallback)
{
	const MockRig rig = open_mock({plain0});
	const Memory ram = patterned(1, 35);
	std::vector<std::byte> data(page);

	want_errno("map", rig.container.map(iova0, ram.data(), page), 0);
	want_answer("read", rig.devices[0].read(iova0, data), "ok");
	want("right", filled(data, 35), true);
}

/* Dirty pages */

TEST_F(MockDirty, PinsAndWritesOnly)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(16, 36);
	std::vector<std::byte> data(2 * page);
	Bitmap bits(16);
	const auto get = [&](const std::string &key, const std::string &expected) {
		want_dirty(key, rig.container, 16, expected);
	};

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin.before", device.pin(iova0), "1");
	want_errno("start", rig.container.dirty_start(), 0);
	get("at_start", "0");
	want_answer("pin", device.pin(iova0 + 5 * page, 2), "2");
	get("pinned", "0 5-6");
	get("pinned.again", "0 5-6");
	want_errno("unpin", device.unpin(iova0 + 5 * page, 1), 0);
	/* It was written to until now, for all we know. */
	get("unpinned", "0 5-6");
	get("unpinned.again", "0 6");
	want_answer("write", device.write(iova0 + 9 * page - 1, std::span(data).first(2)), "ok");
	get("written", "0 6 8-9");
	get("written.again", "0 6");
	want_answer("read", device.read(iova0 + 12 * page, data), "ok");
	get("only_read", "0 6");
	want_answer("pin_unpin", device.pin(iova0 + 15 * page), "1");
	want_errno("pin_unpin.unpin", device.unpin(iova0 + 15 * page), 0);
	get("pin_unpin.dirty", "0 6 15");
	get("pin_unpin.again", "0 6");
	want_answer("pin_ro", device.pin(iova0 + 14 * page, 1, rd), "1");
	get("pinned_to_read", "0 6 14");
	want_errno("stop", rig.container.dirty_stop(), 0);
	want_errno("get.stopped",
		rig.container.dirty_get(iova0, 16 * page, bits.data(), bits.bytes()), EINVAL);
}

TEST_F(MockDirty, PinOfAPinnedPage)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(16, 37);
	Bitmap bits(16);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	want_answer("pin", device.pin(iova0, 2), "2");
	want_errno("unpin", device.unpin(iova0, 1), 0);
	want_answer("pin.second", device.pin(iova0 + page), "1");
	want_errno("get", rig.container.dirty_get(iova0, 16 * page, bits.data(), bits.bytes()), 0);
	want("bits", bits.show(), "0-1");
	want_errno("unpin.1", device.unpin(iova0 + page), 0);
	bits.clear();
	want_errno(
		"get.1", rig.container.dirty_get(iova0, 16 * page, bits.data(), bits.bytes()), 0);
	want("bits.1", bits.show(), "1");
	want_errno("unpin.2", device.unpin(iova0 + page), 0);
	bits.clear();
	want_errno(
		"get.2", rig.container.dirty_get(iova0, 16 * page, bits.data(), bits.bytes()), 0);
	see("bits.2", bits.show());
	bits.clear();
	want_errno(
		"get.3", rig.container.dirty_get(iova0, 16 * page, bits.data(), bits.bytes()), 0);
	see("bits.3", bits.show());
}

/* Bits of several mappings, at places that are no multiple of 64 pages */
TEST_F(MockDirty, SeveralMappings)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(256, 38);
	std::uint64_t at = 0;
	Bitmap bits(256);
	int n = 0;

	want_errno("start", rig.container.dirty_start(), 0);
	for (const std::uint64_t pages : {3, 64, 61, 1, 100}) {
		want_errno("map." + std::to_string(n++),
			rig.container.map(iova0 + at * page, ram.at(at * page), pages * page), 0);
		at += pages + 5;
	}
	for (const std::uint64_t i : {2ULL, 8ULL, 71ULL, 77ULL, 137ULL, 143ULL, 149ULL, 248ULL})
		see("pin." + std::to_string(i), answer(device.pin(iova0 + i * page).result));
	want_errno("get", rig.container.dirty_get(iova0, 256 * page, bits.data(), bits.bytes()), 0);
	see("bits", bits.show());
	std::vector<std::byte> data(64 * page);
	want_answer("write", device.write(iova0 + 8 * page, data), "ok");
	bits.clear();
	want_errno(
		"get.2", rig.container.dirty_get(iova0, 256 * page, bits.data(), bits.bytes()), 0);
	/* The stock driver also gives bits that an earlier answer has left behind. */
	want_ours("bits.2", bits.show(), "2 8-71 77 137 143 149 248");
	bits.clear();
	want_errno("get.part",
		rig.container.dirty_get(iova0 + 8 * page, 64 * page, bits.data(), bits.bytes()), 0);
	see("bits.part", bits.show());
}

TEST_F(MockDirty, AtUnmap)
{
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(16, 39);
	std::vector<std::byte> data(page);
	Bitmap bits(16);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	want_answer("pin", device.pin(iova0 + 3 * page, 2), "2");
	want_answer("write", device.write(iova0 + 10 * page, data), "ok");
	want_unmapped("unmap",
		rig.container.unmap_dirty(iova0, ram.size(), bits.data(), bits.bytes()), 16);
	want("bits", bits.show(), "3-4 10");
	want("log", log_of(device), hex(iova0) + "+0x10000");
	want("charged", charged(), 0);
}

/* The container */

TEST_F(MockContainer, Info)
{
	MockRig rig = open_mock({emulated0});
	const Memory ram = Memory::map(page);
	const auto see_info = [&](const std::string &key) {
		const Info info = rig.container.info();

		want_errno(key, info.result, 0);
		see(key + ".flags", hex(info.flags));
		want(key + ".pgsizes", hex(info.page_sizes), "0xfffffffffffff000");
		want(key + ".migration", hex(info.migration_page_sizes), "0x1000");
		/* Without an IOMMU any address will do, and no ranges are told. */
		want(key + ".ranges", ranges(info), "");
		see(key + ".avail", info.dma_avail);
	};

	see_info("info");
	want_errno("map", rig.container.map(iova0, ram.data(), page), 0);
	see_info("info.mapped");
	want("update_vaddr", rig.container.extension(VFIO_UPDATE_VADDR).value, 0);
	want("dma_cc", rig.container.extension(VFIO_DMA_CC_IOMMU).value, 1);
	/* From 6.2 on, it is asked of each device's IOMMU, and there is none. */
	want("coherent", mock().coherent(rig.groups[0]).value, kernel_before(6, 2) ? 1 : 0);
}

TEST_F(MockContainer, MapsAnything)
{
	const MockRig rig = open_mock_groups({emulated0});
	const Memory hole = Memory::reserve(gib, page);
	const Memory ram = Memory::map(page);

	want_errno("none", rig.container.map(iova0, hole.data(), hole.size()), 0);
	want_errno("below_none", rig.container.map_addr(0, 0x1000, 0x1000), 0);
	want_errno("huge", rig.container.map_addr(1ULL << 50, 0, 1ULL << 46), 0);
	want_errno("near_end", rig.container.map(~0ULL - 2 * page + 1, ram.data(), page), 0);
	want_errno("unaligned", rig.container.map(iova0 + gib + 1, ram.data(), page), EINVAL);
	want_errno("overlap", rig.container.map(iova0 + gib - page, ram.data(), 2 * page), EEXIST);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	want_errno("unmap_all", rig.container.unmap_all(), 0);
	want_unmapped("unmap_all.again", rig.container.unmap_all(), 0);
}

/* KB05: the last page of the address space. */
TEST_F(MockContainer, KB05_LastPage)
{
	covers({"KB05"});
	if (kernel_before(7, 2))
		NOT_ON_STOCK("it cannot find, unmap or mark dirty what ends at 2^64");
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(4, 40);
	const std::uint64_t last = ~0ULL - page + 1, first = ~0ULL - 4 * page + 1;
	std::vector<std::byte> data(page);
	const auto want_bits = [&](const std::string &key, std::uint64_t iova, std::uint64_t size,
				       const std::string &expected) {
		Bitmap bits(4);

		want_errno(key + ".get",
			rig.container.dirty_get(iova, size, bits.data(), bits.bytes()), 0);
		want(key, bits.show(), expected);
	};

	for (const std::uint64_t iova : {last, first}) {
		const std::string key = iova == last ? "page." : "four.";
		const std::string only = iova == last ? "0" : "3"; /* the last one */
		const std::uint64_t size = ~iova + 1;

		want_errno(key + "map", rig.container.map(iova, ram.data(), size), 0);
		want_errno(key + "twice", rig.container.map(last, ram.data(), page), EEXIST);
		want_errno(key + "wrap", rig.container.map(last, ram.data(), 2 * page),
			error_of_wrapping());
		want_errno(key + "start", rig.container.dirty_start(), 0);
		want_answer(key + "read", device.read(last, data), "ok");
		want_bits(key + "read.bits", iova, size, "");
		want_answer(key + "write", device.write(last, data), "ok");
		want_bits(key + "write.bits", iova, size, only);
		want_bits(key + "again.bits", iova, size, "");
		want_answer(key + "pin", device.pin(last), "1");
		want(key + "same", device.same_page(last, ram.at(size - page)), true);
		want_bits(key + "pin.bits", iova, size, only);
		want_errno(key + "stop", rig.container.dirty_stop(), 0);
		want_unmapped(key + "unmap", rig.container.unmap(iova, size), size / page);
		want(key + "charged", charged(), 0);
		want_errno(key + "map.again", rig.container.map(iova, ram.data(), size), 0);
		want_unmapped(key + "unmap_all", rig.container.unmap_all(), size / page);
	}
}

TEST_F(MockContainer, KB04_NoNewAddresses)
{
	covers({"KB04"});
	MockRig rig = open_mock_groups({emulated0});
	const Memory ram = Memory::map(4 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("extension", rig.container.extension(VFIO_UPDATE_VADDR).value, 0);
	want_errno("invalidate", rig.container.unmap(iova0, ram.size(), VFIO_DMA_UNMAP_FLAG_VADDR),
		EBUSY);
	want_errno("invalidate.all",
		rig.container.unmap(0, 0, VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL),
		EBUSY);
	want_errno("update",
		rig.container.map(iova0, ram.data(), ram.size(), VFIO_DMA_MAP_FLAG_VADDR), EINVAL);
	want_errno("update.unknown",
		rig.container.map(iova0 + mib, ram.data(), ram.size(), VFIO_DMA_MAP_FLAG_VADDR),
		ENOENT);
}

TEST_F(MockContainer, TwoGroups)
{
	for (const std::size_t first : {0UL, 1UL}) {
		const std::string key = std::to_string(first) + ".";
		MockRig rig = open_mock_groups({emulated0, emulated1});
		const Memory ram = patterned(4, 41);

		want_errno(key + "map", rig.container.map(iova0, ram.data(), ram.size()), 0);
		want_errno(key + "unset", rig.groups[first].unset_container(), 0);
		want_errno(key + "overlap", rig.container.map(iova0, ram.data(), page), EEXIST);
		want_errno(key + "unset.last", rig.groups[1 - first].unset_container(), 0);
		want_errno(key + "gone", rig.container.info().result, EINVAL);
	}
}

TEST_F(MockContainer, KB01_EntryLimit)
{
	covers({"KB01"});
	const BackendParameter limit("dma_entry_limit", "4");
	if (!limit.set())
		GTEST_SKIP() << "the parameter dma_entry_limit cannot be set";
	const MockRig rig = open_mock_groups({emulated0});
	const Memory ram = Memory::map(page);

	for (std::uint64_t i = 0; i < 4; i++)
		want_errno("map." + std::to_string(i),
			rig.container.map(iova0 + i * page, ram.data(), page), 0);
	want("avail", rig.container.info().dma_avail, 0);
	want_errno("full", rig.container.map(iova0 + 4 * page, ram.data(), page), ENOSPC);
	want_unmapped("unmap", rig.container.unmap(iova0 + page, page), 1);
	want_errno("room", rig.container.map(iova0 + 4 * page, ram.data(), page), 0);
	want_errno("full.again", rig.container.map(iova0 + 5 * page, ram.data(), page), ENOSPC);
}

/* The container's descriptor goes first; what it did lives on until the group is closed. */
TEST_F(MockContainer, CloseOrder)
{
	const Memory ram = patterned(8, 50);

	for (const char *order : {"container_first", "group_first"}) {
		const std::string key = std::string(order) + ".";
		MockRig rig = open_mock({emulated0});
		std::vector<std::byte> data(page);

		want_errno(key + "map", rig.container.map(iova0, ram.data(), ram.size()), 0);
		want_answer(key + "pin", rig.devices[0].pin(iova0, 2), "2");
		if (key == "container_first.")
			rig.container.close();
		else
			rig.groups.clear();
		want(key + "charged", charged(), 2);
		want_answer(key + "pin.more", rig.devices[0].pin(iova0 + 4 * page, 2), "2");
		want_answer(key + "read", rig.devices[0].read(iova0, data), "ok");
		want(key + "charged.more", charged(), 4);
		rig.devices.clear();
		want(key + "charged.device", charged(), 0);
		rig.close();
		want(key + "pinned", pinned(), 0);
	}
}

/* With the machine's IOMMU and a device of its own. */

static Result add_real_group(MockRig &rig)
{
	Group group = Group::open(env().devices.at(0).group);
	const Result result = group.set_container(rig.container);

	if (result.ok())
		rig.groups.push_back(std::move(group));
	return result;
}

TEST_F(MockWithIommu, PinsAreChargedOnce)
{
	NEED_DEVICES(1);
	MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(16, 42);

	want_errno("add", add_real_group(rig), 0);
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("charged.map", charged(), 16);
	want_answer("pin", device.pin(iova0, 4), "4");
	want("charged.pin", charged(), 16);
	want("same", device.same_page(iova0 + page, ram.at(page)), true);
	want_errno("unpin", device.unpin(iova0, 2), 0);
	want("charged.unpin", charged(), 16);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 16);
	want("charged.none", charged(), 0);
	want("log", log_of(device), hex(iova0) + "+0x10000");
	want("pinned", pinned(), 0);
}

TEST_F(MockWithIommu, GroupComesAndGoes)
{
	NEED_DEVICES(1);
	MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory a = patterned(16, 43), b = patterned(4, 44);

	want_errno("map.a", rig.container.map(iova0, a.data(), a.size()), 0);
	want_errno("map.b", rig.container.map(iova0 + mib, b.data(), b.size(), rd), 0);
	want_answer("pin.a", device.pin(iova0 + 2 * page, 3), "3");
	want_answer("pin.b", device.pin(iova0 + mib, 1, rd), "1");
	want("charged.pinned", charged(), 4);
	for (const char *round : {"1.", "2."}) {
		const std::string key = round;

		want_errno(key + "attach", add_real_group(rig), 0);
		want(key + "charged.attached", charged(), 20);
		want("same." + key, device.same_page(iova0 + 2 * page, a.at(2 * page)), true);
		want_answer(key + "pin.more", device.pin(iova0 + 8 * page), "1");
		want(key + "charged.more", charged(), 20);
		want_errno(key + "detach", rig.groups.back().unset_container(), 0);
		rig.groups.pop_back();
		want(key + "charged.detached", charged(), 5);
		want_errno(key + "unpin", device.unpin(iova0 + 8 * page), 0);
		want(key + "charged.unpinned", charged(), 4);
	}
	want_errno("unpin.a", device.unpin(iova0 + 2 * page, 3), 0);
	want("charged.b", charged(), 1);
	want_unmapped("unmap_all", rig.container.unmap_all(), 20);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
}

TEST_F(MockWithIommu, KB13_ReplayFails)
{
	NEED_DEVICES(1);
	covers({"KB13"});
	MockRig rig = open_mock({emulated0});
	Memory ram = patterned(16, 45);

	ram.punch(8 * page, page);
	want_errno("map", rig.container.map(iova0, ram.data(), 4 * page), 0);
	want_errno("map.hole", rig.container.map(iova0 + mib, ram.at(4 * page), 12 * page), 0);
	want_answer("pin", rig.devices[0].pin(iova0 + mib, 2), "2");
	want("charged", charged(), 2);
	want_errno("attach", add_real_group(rig), EFAULT);
	want("charged.failed", charged(), 2);
	want("ranges.failed", ranges(rig.container.info()), "");
	want_unmapped("unmap.hole", rig.container.unmap(iova0 + mib, 12 * page), 12);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
	want_errno("attach.again", add_real_group(rig), 0);
	want("charged.attached", charged(), 4);
}

TEST_F(MockWithIommu, KB21_ReplayOverTheLimit)
{
	NEED_DEVICES(1);
	covers({"KB21"});
	MockRig rig = open_mock({emulated0});

	take("", run_child([&](Notes &seen) {
		const Memory ram = patterned(16, 46);
		const auto before = vm_locked_pages();

		limit_locked_memory(12);
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), 8 * page).err));
		seen.put("map.2",
			errno_name(rig.container.map(iova0 + mib, ram.at(8 * page), 8 * page).err));
		seen.put("pin", answer(rig.devices[0].pin(iova0, 2).result));
		seen.put("attach", errno_name(add_real_group(rig).err));
		seen.put("charged", vm_locked_pages() - before);
		seen.put("unmap", errno_name(rig.container.unmap(iova0 + mib, 8 * page).err));
		seen.put("attach.again", errno_name(add_real_group(rig).err));
		seen.put("charged.again", vm_locked_pages() - before);
		seen.put("unmap.2", errno_name(rig.container.unmap_all().err));
		seen.put("charged.none", vm_locked_pages() - before);
	}));
	expect_noted("attach", std::string("ENOMEM"));
	expect_noted("charged", std::int64_t{2});
	expect_noted("attach.again", std::string("ok"));
	expect_noted("charged.again", std::int64_t{8});
	expect_noted("charged.none", std::int64_t{0});
}

TEST_F(MockWithIommu, KB04_EmulatedGroupMustWait)
{
	NEED_DEVICES(1);
	covers({"KB04"});
	Rig rig = open_rig();
	const Memory ram = patterned(4, 47);
	const Group group = open_group(emulated0);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("extension", rig.container.extension(VFIO_UPDATE_VADDR).value, 1);
	want_errno(
		"invalidate", rig.container.unmap(iova0, ram.size(), VFIO_DMA_UNMAP_FLAG_VADDR), 0);
	want_errno("attach", group.set_container(rig.container), EBUSY);
	want_errno("update",
		rig.container.map(iova0, ram.data(), ram.size(), VFIO_DMA_MAP_FLAG_VADDR), 0);
	want_errno("attach.again", group.set_container(rig.container), 0);
	want("extension.emulated", rig.container.extension(VFIO_UPDATE_VADDR).value, 0);
	want_errno("invalidate.emulated",
		rig.container.unmap(iova0, ram.size(), VFIO_DMA_UNMAP_FLAG_VADDR), EBUSY);
	want_errno("detach", group.unset_container(), 0);
	want("extension.again", rig.container.extension(VFIO_UPDATE_VADDR).value, 1);
	want("charged", charged(), 4);
}

TEST_F(MockWithIommu, DirtyScope)
{
	NEED_DEVICES(1);
	MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(8, 48);
	const auto get = [&](const std::string &key, const std::string &expected) {
		want_dirty(key, rig.container, 8, expected);
	};

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	want_answer("pin", device.pin(iova0 + page), "1");
	get("emulated", "1");
	want_errno("attach", add_real_group(rig), 0);
	/* A device that does DMA by itself may have written anywhere. */
	get("iommu", "0-7");
	get("iommu.again", "0-7");
	want_errno("detach", rig.groups.back().unset_container(), 0);
	rig.groups.pop_back();
	get("detached", "0-7");
	get("detached.again", "1");
}

/* The last IOMMU group leaves, the emulated one stays, and so do the mappings. */
TEST_F(MockWithIommu, DetachOrder)
{
	NEED_DEVICES(1);
	const Memory ram = patterned(8, 49);

	for (const char *order : {"iommu_first", "emulated_first"}) {
		const std::string key = std::string(order) + ".";
		MockRig rig = open_mock_groups({emulated0});
		const bool iommu_first = key == "iommu_first.";

		want_errno(key + "attach", add_real_group(rig), 0);
		want_errno(key + "map", rig.container.map(iova0, ram.data(), ram.size()), 0);
		want(key + "charged", charged(), 8);
		want_errno(key + "detach", rig.groups[iommu_first].unset_container(), 0);
		want(key + "charged.detached", charged(), iommu_first ? 0 : 8);
		want_errno(
			key + "still_mapped", rig.container.map(iova0, ram.data(), page), EEXIST);
		if (iommu_first)
			want(key + "ranges", ranges(rig.container.info()),
				"0x0-0xffffffffffffffff");
		want_errno(key + "detach.last", rig.groups[!iommu_first].unset_container(), 0);
		want(key + "charged.none", charged(), 0);
		want_errno(key + "gone", rig.container.info().result, EINVAL);
	}
}

} // namespace selftest
