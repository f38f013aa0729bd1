// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: VFIO_IOMMU_GET_INFO. What it says, and exactly which bytes it writes
 * for each argsz.
 */
#include "case.hpp"

#include <cstring>

namespace selftest
{

using InfoCase = VfioCase;

static constexpr std::size_t fixed_part = 16; /* up to iova_pgsizes */
static constexpr std::size_t up_to_caps = 20; /* up to cap_offset */

static std::string ranges_text(const std::vector<IovaRange> &ranges)
{
	std::string text;

	for (const auto &range : ranges)
		text += (text.empty() ? "" : ",") + hex(range.start) + "-" + hex(range.end);
	return text;
}

TEST_F(InfoCase, Contents)
{
	NEED_DEVICES(1);
	covers({"KB08"});
	const Rig rig = open_rig();
	const Info info = rig.container.info();
	std::string caps;

	for (const auto &[id, version] : info.caps)
		caps += std::to_string(id) + "v" + std::to_string(version) + " ";
	want_errno("get_info", info.result, 0);
	want("flags", info.flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
	see("page_sizes", hex(info.page_sizes));
	see("caps", caps);
	see("ranges", ranges_text(info.ranges));
	want("migration.flags", info.migration_flags, 0);
	want("migration.page_sizes", hex(info.migration_page_sizes), hex(page));
	want("migration.bitmap_max", info.migration_bitmap_max, 256 * mib);
	want("dma_avail", info.dma_avail, 65535);
}

TEST_F(InfoCase, ContentsV1)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig(1, VFIO_TYPE1_IOMMU);
	const Info info = rig.container.info();

	want_errno("get_info", info.result, 0);
	see("flags", info.flags);
	see("page_sizes", hex(info.page_sizes));
	see("caps", info.caps.size());
	see("ranges", ranges_text(info.ranges));
	see("dma_avail", info.dma_avail);
}

TEST_F(InfoCase, RangesWithMoreGroups)
{
	NEED_DEVICES(3);
	Rig rig = open_rig(1);

	see("one", ranges_text(rig.container.info().ranges));
	for (std::size_t i = 1; i < 3; i++) {
		rig.groups.push_back(Group::open(env().devices[i].group));
		want_errno("attach." + std::to_string(i),
			rig.groups[i].set_container(rig.container), 0);
	}
	see("three", ranges_text(rig.container.info().ranges));
	want_errno("detach", rig.groups[0].unset_container(), 0);
	see("two", ranges_text(rig.container.info().ranges));
	want("page_sizes", rig.container.info().result.err, 0);
}

TEST_F(InfoCase, DmaAvailFollowsMappings)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(8 * page);
	const auto before = rig.container.info().dma_avail;

	for (std::size_t i = 0; i < 3; i++)
		want_errno("map." + std::to_string(i),
			rig.container.map(iova0 + 2 * i * page, ram.at(2 * i * page), page), 0);
	want("mapped", rig.container.info().dma_avail - before, -3);
	/* A failed map takes no entry. */
	want_errno("map.exists", rig.container.map(iova0, ram.data(), page), EEXIST);
	want_errno("map.fault", rig.container.map_addr(iova0 + 64 * page, 0, page), EFAULT);
	want("failed", rig.container.info().dma_avail - before, -3);
	want_unmapped("unmap.one", rig.container.unmap(iova0, page), 1);
	want("unmapped.one", rig.container.info().dma_avail - before, -2);
	want_unmapped("unmap.all", rig.container.unmap_all(), 2);
	want("unmapped.all", rig.container.info().dma_avail - before, 0);
}

/* "0-16 24-60": the bytes that a call changed, whatever was there before. */
static std::string written(const std::vector<std::byte> &a, std::byte before_a,
	const std::vector<std::byte> &b, std::byte before_b)
{
	std::string text;
	std::size_t begin = 0;
	bool inside = false;

	for (std::size_t i = 0; i <= a.size(); i++) {
		/* The same byte as before in both calls, with two fillings: not written. */
		const bool changed = i < a.size() && !(a[i] == before_a && b[i] == before_b);

		if (changed && !inside)
			begin = i;
		if (!changed && inside)
			text += (text.empty() ? "" : " ") + std::to_string(begin) + "-" +
				std::to_string(i);
		inside = changed;
	}
	return text;
}

struct RawInfo {
	Result result;
	std::vector<std::byte> bytes;
};

static RawInfo raw_info(const Container &container, std::uint32_t argsz, std::byte filling)
{
	RawInfo raw;

	raw.bytes.assign(4096, filling);
	std::memcpy(raw.bytes.data(), &argsz, sizeof(argsz));
	raw.result = container.ioctl(VFIO_IOMMU_GET_INFO, raw.bytes.data());
	return raw;
}

static std::uint32_t u32_at(const std::vector<std::byte> &bytes, std::size_t at)
{
	std::uint32_t value;

	std::memcpy(&value, &bytes[at], sizeof(value));
	return value;
}

/* Bytes that a full answer takes: the kernel tells when argsz is too small for it. */
static std::uint32_t full_size(const Container &container)
{
	return u32_at(raw_info(container, up_to_caps, std::byte{0}).bytes, 0);
}

/* KB08: nothing beyond argsz is written, no kernel memory comes out. */
TEST_F(InfoCase, KB08_EveryArgsz)
{
	NEED_DEVICES(1);
	covers({"KB08", "KB24"});
	const Rig rig = open_rig();
	const std::uint32_t full = full_size(rig.container);

	see("full_size", full);
	for (const std::uint32_t argsz : {0U, 1U, 4U, 8U, 12U, 15U, 16U, 17U, 19U, 20U, 21U, 23U,
		     24U, 25U, 32U, 48U, full - 8, full - 1, full, full + 1, 4096U, 0xffffffffU}) {
		const RawInfo a = raw_info(rig.container, argsz, std::byte{0xa5});
		const RawInfo b = raw_info(rig.container, argsz, std::byte{0x5a});
		const std::string key = "argsz." + std::to_string(argsz);

		want_errno(key, a.result, argsz < fixed_part ? EINVAL : 0);
		see(key + ".written",
			written({a.bytes.begin() + 4, a.bytes.end()}, std::byte{0xa5},
				{b.bytes.begin() + 4, b.bytes.end()}, std::byte{0x5a}));
		see(key + ".argsz", u32_at(a.bytes, 0));
		if (!a.result.ok())
			continue;
		see(key + ".flags", u32_at(a.bytes, 4));
		if (argsz >= up_to_caps)
			see(key + ".cap_offset", u32_at(a.bytes, 16));
		if (argsz >= full) {
			see(key + ".digest", digest(a.bytes));
		}
	}
}

TEST_F(InfoCase, BadPointers)
{
	NEED_DEVICES(1);
	covers({"KB24"});
	const Rig rig = open_rig();
	const std::uint32_t full = full_size(rig.container);
	Memory two = Memory::map(2 * page);
	const auto call = [&](unsigned long at) {
		return rig.container.ioctl(VFIO_IOMMU_GET_INFO, at);
	};
	const auto put_argsz = [&](std::byte *at, std::uint32_t argsz) {
		std::memcpy(at, &argsz, sizeof(argsz));
		return reinterpret_cast<unsigned long>(at);
	};

	want_errno("null", call(0), EFAULT);
	want_errno("kernel", call(0xffff888000000000UL), EFAULT);
	want_errno("noncanonical", call(0x8000000000000000UL), EFAULT);
	two.punch(page, page);
	want_errno("unmapped", call(two.address() + page), EFAULT);
	want_errno("straddles", call(put_argsz(two.at(page - 8), 4096)), EFAULT);
	/* The fixed part fits, the capabilities do not. */
	want_errno("caps_unmapped", call(put_argsz(two.at(page - 24), full)), EFAULT);
	want_errno("just_fits", call(put_argsz(two.at(page - 20), 20)), 0);
	want_errno("caps_fit", call(put_argsz(two.at(page - full), full)), 0);

	const unsigned long at = put_argsz(two.data(), 20);

	::mprotect(two.data(), page, PROT_READ);
	want_errno("read_only", call(at), EFAULT);
}

TEST_F(InfoCase, PageSizesFitTheTable)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Info info = rig.container.info();

	/* The smallest page is 4 KiB: everything else in this suite relies on it. */
	want("smallest", hex(info.page_sizes & -info.page_sizes), hex(page));
}

} // namespace selftest
