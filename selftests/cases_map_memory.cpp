// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: kinds of memory given to VFIO_IOMMU_MAP_DMA. For each: errno, pages
 * charged, contents afterwards, a device's reads and writes at its first,
 * middle and last page, and everything back at the end.
 */
#include "case.hpp"
#include "proc.hpp"

#include <cstring>
#include <fcntl.h>
#include <functional>
#include <linux/memfd.h>
#include <sys/auxv.h>
#include <unistd.h>

namespace selftest
{

/* Memory that a row made, and which part of it to map how. */
struct Scene {
	Memory memory;
	std::size_t at = 0;
	std::size_t size = 0; /* 0: all */
	std::uint64_t iova = iova0;
	std::uint32_t flags = map_rw;
	int expected = 0;
	std::int64_t charge = -1; /* pages; -1: all of them */
	bool stamped = true;	  /* contents are stamp()s, or zeroes */
	/* Punched just before the map: an earlier hole would be filled by the mmap of a BAR. */
	std::size_t hole = 0;
	std::size_t hole_size = 0;
	Memory second{}; /* kept alive */
};

struct MemoryRow {
	const char *name;
	Backing backing; /* what the machine must have, and how much */
	std::size_t need;
	std::function<Scene()> make;
	const char *covers = nullptr;
};

using MapMemory = RowCase<MemoryRow>;

static constexpr unsigned seed = 1;
static constexpr std::uint64_t scratch_iova = 0x800000;
static constexpr std::uint32_t probe_bytes = 256;

/*
 * Devices read the first and the middle page and write the last one. All at
 * once, since a transfer takes long whatever it moves.
 */
static std::string device_check(Rig &rig, const Memory &scratch, const Scene &scene)
{
	const std::size_t pages = scene.size / page;
	const std::uint64_t first = scene.iova;
	const std::uint64_t middle = scene.iova + pages / 2 * page;
	const std::uint64_t last = scene.iova + scene.size - probe_bytes;
	std::byte *const last_at = scene.memory.at(scene.at + scene.size - probe_bytes);
	const bool reads = scene.flags & VFIO_DMA_MAP_FLAG_READ;
	const bool writes = scene.flags & VFIO_DMA_MAP_FLAG_WRITE;
	std::vector<std::byte> saved(last_at, last_at + probe_bytes);
	std::vector<Copy> copies;
	std::string bad;

	std::memset(scratch.data(), 0x77, 3 * page);
	fill(scratch.bytes(2 * page, probe_bytes), 99);
	if (reads) {
		copies.push_back({first, scratch_iova, probe_bytes});
		copies.push_back({middle, scratch_iova + page, probe_bytes});
	}
	if (writes)
		copies.push_back({scratch_iova + 2 * page, last, probe_bytes});
	if (!run_copies(rig.engines, copies))
		return "a transfer did not end";
	if (reads && std::memcmp(scratch.data(), scene.memory.at(scene.at), probe_bytes))
		bad += "first page read wrongly; ";
	if (reads && std::memcmp(scratch.at(page), scene.memory.at(scene.at + pages / 2 * page),
			     probe_bytes))
		bad += "middle page read wrongly; ";
	if (writes) {
		if (!filled({last_at, probe_bytes}, 99))
			bad += "last page not written; ";
		std::memcpy(last_at, saved.data(), probe_bytes);
	}
	return bad.empty() ? "good" : bad;
}

TEST_P(MapMemory, Map)
{
	NEED_DEVICES(1);
	NEED_MEMORY(GetParam().backing, GetParam().need);
	if (GetParam().covers)
		covers({GetParam().covers});
	const bool edu = has_edu();
	const auto pool = free_huge_pages(huge_2m);

	{
		Scene scene = GetParam().make();
		Rig rig = edu ? open_dma_rig() : open_rig();
		const Memory scratch = Memory::map(3 * page);

		if (!scene.size)
			scene.size = scene.memory.size() - scene.at;
		want_errno("scratch", rig.container.map(scratch_iova, scratch.data(), 3 * page), 0);

		const auto base = charged();
		const auto pages = static_cast<std::int64_t>(scene.size / page);
		const auto charge = scene.expected ? 0 : scene.charge < 0 ? pages : scene.charge;
		const auto map = [&] {
			return rig.container.map(
				scene.iova, scene.memory.at(scene.at), scene.size, scene.flags);
		};

		if (scene.hole_size)
			scene.memory.punch(scene.hole, scene.hole_size);
		want_errno("map", map(), scene.expected);
		want("charged", charged() - base, charge);
		if (scene.expected) {
			/* Not even the part before the fault is left. */
			const Memory fresh = Memory::map(scene.size);

			want_errno("map.then",
				rig.container.map(scene.iova, fresh.data(), scene.size,
					VFIO_DMA_MAP_FLAG_READ),
				0);
			want_unmapped("unmap.then", rig.container.unmap(scene.iova, scene.size),
				scene.size / page);
		} else {
			if (edu)
				want("device", device_check(rig, scratch, scene), "good");
			want_unmapped("unmap", rig.container.unmap(scene.iova, scene.size),
				scene.size / page);
			want("charged.unmapped", charged() - base, 0);
			if (scene.stamped)
				want("contents", stamped(scene.memory, seed), true);
			/* Once more: the first unmap gave everything back. */
			want_errno("map.again", map(), 0);
			want("charged.again", charged() - base, charge);
		}
	}
	want("pool", free_huge_pages(huge_2m) == pool, true);
}

static constexpr int rw = PROT_READ | PROT_WRITE;
static constexpr int anon = MAP_PRIVATE | MAP_ANONYMOUS;

static Scene plain(Backing backing, std::size_t size)
{
	Scene scene{.memory = allocate(backing, size)};

	stamp(scene.memory, seed);
	return scene;
}

static Scene cold(Backing backing, std::size_t size, std::uint32_t flags = map_rw)
{
	return {.memory = allocate(backing, size), .flags = flags, .stamped = false};
}

static Scene part(Scene scene, std::size_t at, std::size_t size, std::uint64_t iova = iova0)
{
	scene.at = at;
	scene.size = size;
	scene.iova = iova;
	return scene;
}

static Scene with_flags(Scene scene, std::uint32_t flags, int expected = 0)
{
	scene.flags = flags;
	scene.expected = expected;
	return scene;
}

static Scene holed(Scene scene, std::size_t at, std::size_t size = page)
{
	scene.hole = at;
	scene.hole_size = size;
	scene.expected = EFAULT;
	scene.stamped = false;
	return scene;
}

static Scene protect(Scene scene, std::size_t at, std::size_t size, int prot, int expected)
{
	::mprotect(scene.memory.at(at), size, prot);
	scene.expected = expected;
	return scene;
}

/* Memory behind a file or memfd, mapped in a given way. */
static Scene of_fd(int fd, std::size_t size, int prot, int flags, std::size_t mapped = 0)
{
	const std::size_t want = mapped ? mapped : size;
	Scene scene{.memory = Memory::reserve(want, huge_2m)};

	/* Contents through another mapping, since this one may be read-only. */
	Memory view = Memory::map(size, rw, MAP_SHARED, fd);

	stamp(view, seed);
	scene.memory.place(0, want, prot, flags, fd);
	scene.stamped = !mapped;
	::close(fd);
	return scene;
}

static int tmp_file(std::size_t size)
{
	char path[] = "/tmp/vfio_mt_selftest.XXXXXX";
	const int fd = ::mkostemp(path, O_CLOEXEC);

	if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size)))
		throw std::runtime_error("no temporary file in /tmp");
	::unlink(path);
	return fd;
}

/* A 2 MiB page that the page table maps by 4 KiB entries. */
static Scene pte_mapped_thp(std::size_t size)
{
	Scene scene = plain(Backing::thp, size);

	for (std::size_t at = 0; at < size; at += huge_2m) {
		::mprotect(scene.memory.at(at), page, PROT_READ);
		::mprotect(scene.memory.at(at), page, rw);
	}
	return scene;
}

/* Some pages inside huge ones are dropped, and will be faulted in as small ones. */
static Scene thp_with_refaults(std::size_t size)
{
	Scene scene = plain(Backing::thp, size);

	for (std::size_t at = 5 * page; at < size; at += huge_2m)
		::madvise(scene.memory.at(at), page, MADV_DONTNEED);
	scene.stamped = false;
	return scene;
}

static Scene mixed_zero()
{
	Scene scene = cold(Backing::small, 16 * page, VFIO_DMA_MAP_FLAG_READ);

	/* Pages 3, 4 and 9 are real, the rest is the zero page. */
	for (const std::size_t i : {3U, 4U, 9U})
		*scene.memory.at(i * page) = std::byte{1};
	scene.charge = 3 + charge_of_zero_pages(13);
	return scene;
}

/* Every kind of memory next to each other, in one mapping. */
static Scene patchwork()
{
	Scene scene{.memory = Memory::reserve(4 * huge_2m, huge_2m)};
	Memory &m = scene.memory;
	const int memfd = make_memfd(huge_2m);
	const int file = tmp_file(huge_2m);

	m.place(0, 2 * huge_2m, rw, anon);
	::madvise(m.data(), huge_2m, MADV_NOHUGEPAGE);
	::madvise(m.at(huge_2m), huge_2m, MADV_HUGEPAGE);
	m.place(7 * page, 5 * page, rw, MAP_SHARED, memfd, 3 * page);
	m.place(30 * page, 9 * page, rw, MAP_SHARED, file, page);
	m.place(100 * page, page, rw, MAP_PRIVATE, file, page);
	m.place(2 * huge_2m, huge_2m, rw, anon | MAP_HUGETLB | (21 << 26));
	m.place(3 * huge_2m, huge_2m, rw, anon);
	::close(memfd);
	::close(file);
	stamp(m, seed);
	scene.at = 3 * page;
	scene.size = 4 * huge_2m - 6 * page;
	return scene;
}

/* Fewer free huge pages than the mapping has: the fault fails in the middle. */
static Scene pool_runs_out()
{
	const auto free = static_cast<std::size_t>(free_huge_pages(huge_2m).value_or(0));
	Scene scene;

	/* Reserved without being touched: gone from the pool at no cost. */
	scene.second = allocate(Backing::hugetlb_2m, (free - 2) * huge_2m);
	scene.memory = Memory::reserve(4 * huge_2m, huge_2m);
	scene.memory.place(0, 4 * huge_2m, rw, anon | MAP_NORESERVE | MAP_HUGETLB | (21 << 26));
	scene.stamped = false;
	scene.expected = EFAULT;
	return scene;
}

alignas(page) static std::byte bss[4 * page];

static Scene many_vmas()
{
	Scene scene = plain(Backing::small, 64 * page);

	for (std::size_t at = 0; at < 64 * page; at += 2 * page)
		::mprotect(scene.memory.at(at), page, rw | PROT_EXEC);
	return scene;
}

static Scene locked()
{
	Scene scene = plain(Backing::small, 16 * page);

	::mlock(scene.memory.data(), scene.memory.size());
	return scene;
}

static constexpr std::uint32_t rd = VFIO_DMA_MAP_FLAG_READ;
static constexpr std::uint32_t wr = VFIO_DMA_MAP_FLAG_WRITE;

static const MemoryRow memory_rows[] = {
	{"small", Backing::small, 0, [] { return plain(Backing::small, 64 * page); }},
	{"small_cold", Backing::small, 0, [] { return cold(Backing::small, 64 * page); }},
	{"small_1000_pages", Backing::small, 0, [] { return plain(Backing::small, 1000 * page); }},
	{"small_read", Backing::small, 0,
		[] { return with_flags(plain(Backing::small, 16 * page), rd); }},
	{"small_write", Backing::small, 0,
		[] { return with_flags(plain(Backing::small, 16 * page), wr); }},
	{"small_iova_odd", Backing::small, 0,
		[] {
			return part(plain(Backing::small, 64 * page), 3 * page, 50 * page,
				iova0 + 17 * page);
		}},
	/* KB12: what is not charged is not left pinned, and the other way round. */
	{"KB12_zero_page", Backing::small, 0,
		[] {
			Scene s = cold(Backing::small, 64 * page, rd);

			s.charge = charge_of_zero_pages(64);
			return s;
		},
		"KB12"},
	{"KB12_zero_page_one", Backing::small, 0,
		[] {
			Scene s = cold(Backing::small, page, rd);

			s.charge = charge_of_zero_pages(1);
			return s;
		},
		"KB12"},
	{"KB12_zero_pages_between", Backing::small, 0, mixed_zero, "KB12"},
	{"small_cold_write", Backing::small, 0, [] { return cold(Backing::small, 16 * page, wr); }},
	/* The huge zero page is an ordinary page to both drivers. */
	{"KB12_huge_zero_page", Backing::thp, huge_2m,
		[] { return cold(Backing::thp, 2 * huge_2m, rd); }, "KB12"},

	{"thp", Backing::thp, 0, [] { return plain(Backing::thp, 2 * huge_2m); }},
	{"thp_cold", Backing::thp, 0, [] { return cold(Backing::thp, 2 * huge_2m); }},
	{"thp_read", Backing::thp, 0, [] { return with_flags(plain(Backing::thp, huge_2m), rd); }},
	{"thp_odd_start", Backing::thp, 0,
		[] { return part(plain(Backing::thp, 3 * huge_2m), page, 3 * huge_2m - page); }},
	{"thp_odd_end", Backing::thp, 0,
		[] { return part(plain(Backing::thp, 3 * huge_2m), 0, 3 * huge_2m - page); }},
	{"thp_odd_both", Backing::thp, 0,
		[] {
			return part(plain(Backing::thp, 3 * huge_2m), huge_2m - page,
				huge_2m + 2 * page);
		}},
	{"thp_inside_one", Backing::thp, 0,
		[] { return part(plain(Backing::thp, huge_2m), 100 * page, 200 * page); }},
	{"thp_iova_odd", Backing::thp, 0,
		[] {
			return part(plain(Backing::thp, 2 * huge_2m), 0, 2 * huge_2m, iova0 + page);
		}},
	{"thp_odd_alike", Backing::thp, 0,
		[] {
			return part(plain(Backing::thp, 3 * huge_2m), 9 * page,
				3 * huge_2m - 20 * page, iova0 + 9 * page);
		}},
	{"KB09_thp_pte_mapped", Backing::thp, 0, [] { return pte_mapped_thp(2 * huge_2m); },
		"KB09"},
	{"thp_refaulted_pages", Backing::thp, 0, [] { return thp_with_refaults(2 * huge_2m); }},
	{"thp_tail_unmapped", Backing::thp, 0,
		[] {
			Scene s = plain(Backing::thp, 2 * huge_2m);

			s.memory.punch(huge_2m + 300 * page, huge_2m - 300 * page);
			s.size = huge_2m + 300 * page;
			s.stamped = false;
			return s;
		}},
	{"thp_half_executable", Backing::thp, 0,
		[] {
			return protect(plain(Backing::thp, huge_2m), huge_2m / 2, huge_2m / 2,
				rw | PROT_EXEC, 0);
		}},

	{"hugetlb_2m", Backing::hugetlb_2m, 4 * huge_2m,
		[] { return plain(Backing::hugetlb_2m, 4 * huge_2m); }},
	{"hugetlb_2m_cold", Backing::hugetlb_2m, 4 * huge_2m,
		[] { return cold(Backing::hugetlb_2m, 4 * huge_2m); }},
	{"hugetlb_2m_cold_read", Backing::hugetlb_2m, 2 * huge_2m,
		[] { return cold(Backing::hugetlb_2m, 2 * huge_2m, rd); }},
	{"hugetlb_2m_read", Backing::hugetlb_2m, huge_2m,
		[] { return with_flags(plain(Backing::hugetlb_2m, huge_2m), rd); }},
	{"hugetlb_2m_odd_start", Backing::hugetlb_2m, 3 * huge_2m,
		[] {
			return part(
				plain(Backing::hugetlb_2m, 3 * huge_2m), page, 3 * huge_2m - page);
		}},
	{"hugetlb_2m_odd_both", Backing::hugetlb_2m, 3 * huge_2m,
		[] {
			return part(plain(Backing::hugetlb_2m, 3 * huge_2m), huge_2m - page,
				huge_2m + 2 * page);
		}},
	{"hugetlb_2m_inside_one", Backing::hugetlb_2m, huge_2m,
		[] { return part(plain(Backing::hugetlb_2m, huge_2m), 7 * page, 3 * page); }},
	{"hugetlb_2m_last_page", Backing::hugetlb_2m, huge_2m,
		[] { return part(plain(Backing::hugetlb_2m, huge_2m), huge_2m - page, page); }},
	{"hugetlb_2m_iova_odd", Backing::hugetlb_2m, 2 * huge_2m,
		[] {
			return part(plain(Backing::hugetlb_2m, 2 * huge_2m), 0, 2 * huge_2m,
				iova0 + 5 * page);
		}},
	{"hugetlb_2m_memfd", Backing::memfd_2m, 2 * huge_2m,
		[] { return plain(Backing::memfd_2m, 2 * huge_2m); }},
	{"hugetlb_2m_memfd_private", Backing::memfd_2m, 4 * huge_2m,
		[] {
			return of_fd(make_memfd(2 * huge_2m, MFD_HUGETLB | (21U << 26)),
				2 * huge_2m, rw, MAP_PRIVATE);
		}},
	{"hugetlb_2m_memfd_read_only", Backing::memfd_2m, 2 * huge_2m,
		[] {
			return with_flags(of_fd(make_memfd(huge_2m, MFD_HUGETLB | (21U << 26)),
						  huge_2m, PROT_READ, MAP_SHARED),
				rd);
		}},
	{"KB09_hugetlb_2m_pool_runs_out", Backing::hugetlb_2m, 8 * huge_2m, pool_runs_out, "KB09"},

	{"memfd", Backing::memfd, 0, [] { return plain(Backing::memfd, 64 * page); }},
	{"memfd_cold", Backing::memfd, 0, [] { return cold(Backing::memfd, 64 * page); }},
	{"memfd_cold_read", Backing::memfd, 0, [] { return cold(Backing::memfd, 16 * page, rd); }},
	{"memfd_read_only", Backing::memfd, 0,
		[] {
			return with_flags(
				of_fd(make_memfd(16 * page), 16 * page, PROT_READ, MAP_SHARED), rd);
		}},
	{"memfd_read_only_for_write", Backing::memfd, 0,
		[] {
			return with_flags(
				of_fd(make_memfd(16 * page), 16 * page, PROT_READ, MAP_SHARED),
				map_rw, EFAULT);
		}},
	{"memfd_private", Backing::memfd, 0,
		[] { return of_fd(make_memfd(16 * page), 16 * page, rw, MAP_PRIVATE); }},
	{"memfd_private_read", Backing::memfd, 0,
		[] {
			return with_flags(
				of_fd(make_memfd(16 * page), 16 * page, rw, MAP_PRIVATE), rd);
		}},
	{"memfd_past_end", Backing::memfd, 0,
		[] {
			return with_flags(
				of_fd(make_memfd(8 * page), 8 * page, rw, MAP_SHARED, 16 * page),
				map_rw, EFAULT);
		}},
	{"file", Backing::file, 0, [] { return plain(Backing::file, 64 * page); }},
	{"file_cold", Backing::file, 0, [] { return cold(Backing::file, 64 * page); }},
	{"file_private", Backing::file, 0,
		[] { return of_fd(tmp_file(16 * page), 16 * page, rw, MAP_PRIVATE); }},
	{"file_private_read", Backing::file, 0,
		[] {
			return with_flags(
				of_fd(tmp_file(16 * page), 16 * page, rw, MAP_PRIVATE), rd);
		}},
	{"file_private_read_only", Backing::file, 0,
		[] {
			return with_flags(
				of_fd(tmp_file(16 * page), 16 * page, PROT_READ, MAP_PRIVATE), rd);
		}},
	{"file_private_read_only_for_write", Backing::file, 0,
		[] {
			return with_flags(
				of_fd(tmp_file(16 * page), 16 * page, PROT_READ, MAP_PRIVATE),
				map_rw, EFAULT);
		}},
	{"file_past_end", Backing::file, 0,
		[] {
			return with_flags(
				of_fd(tmp_file(8 * page), 8 * page, rw, MAP_SHARED, 16 * page),
				map_rw, EFAULT);
		}},
	{"shared_anon", Backing::shared_anon, 0,
		[] { return plain(Backing::shared_anon, 64 * page); }},
	{"shared_anon_cold_read", Backing::shared_anon, 0,
		[] { return cold(Backing::shared_anon, 16 * page, rd); }},

	{"mlocked", Backing::small, 0, locked},
	{"many_vmas", Backing::small, 0, many_vmas},
	{"patchwork", Backing::hugetlb_2m, huge_2m, patchwork},

	{"read_only_memory", Backing::small, 0,
		[] {
			return with_flags(protect(plain(Backing::small, 16 * page), 0, 16 * page,
						  PROT_READ, 0),
				rd);
		}},
	{"read_only_memory_for_write", Backing::small, 0,
		[] {
			return protect(
				plain(Backing::small, 16 * page), 0, 16 * page, PROT_READ, EFAULT);
		}},
	{"read_only_middle_for_write", Backing::small, 0,
		[] {
			return protect(plain(Backing::small, 16 * page), 7 * page, page, PROT_READ,
				EFAULT);
		}},
	{"read_only_last_for_write", Backing::small, 0,
		[] {
			return protect(plain(Backing::small, 16 * page), 15 * page, page, PROT_READ,
				EFAULT);
		}},
	/* A CPU can read what may only be written; a device has to ask. */
	{"write_only_memory_for_read", Backing::small, 0,
		[] {
			return with_flags(protect(plain(Backing::small, 16 * page), 0, 16 * page,
						  PROT_WRITE, 0),
				rd, EFAULT);
		}},
	{"write_only_middle_for_read", Backing::small, 0,
		[] {
			return with_flags(protect(plain(Backing::small, 16 * page), 8 * page, page,
						  PROT_WRITE, 0),
				rd, EFAULT);
		}},
	{"write_only_thp_for_read", Backing::thp, 0,
		[] {
			return with_flags(protect(plain(Backing::thp, 2 * huge_2m), 0, 2 * huge_2m,
						  PROT_WRITE, 0),
				rd, EFAULT);
		}},
	{"write_only_memory_for_write", Backing::small, 0,
		[] {
			return protect(
				plain(Backing::small, 16 * page), 0, 16 * page, PROT_WRITE, 0);
		}},
	{"prot_none", Backing::small, 0,
		[] {
			return protect(
				plain(Backing::small, 16 * page), 0, 16 * page, PROT_NONE, EFAULT);
		}},
	{"prot_none_middle", Backing::small, 0,
		[] {
			return protect(plain(Backing::small, 16 * page), 8 * page, page, PROT_NONE,
				EFAULT);
		}},
	{"hole_first", Backing::small, 0,
		[] { return holed(plain(Backing::small, 16 * page), 0); }},
	{"KB09_hole_middle", Backing::small, 0,
		[] { return holed(plain(Backing::small, 16 * page), 8 * page); }, "KB09"},
	{"hole_last", Backing::small, 0,
		[] { return holed(plain(Backing::small, 16 * page), 15 * page); }},
	{"KB09_hole_after_1000_pages", Backing::small, 0,
		[] { return holed(plain(Backing::small, 1200 * page), 1000 * page); }, "KB09"},
	{"KB09_hole_after_thp", Backing::thp, 0,
		[] { return holed(plain(Backing::thp, 4 * huge_2m), 2 * huge_2m + 10 * page); },
		"KB09"},
	{"KB09_hole_after_cold_thp", Backing::thp, 0,
		[] { return holed(cold(Backing::thp, 4 * huge_2m), 3 * huge_2m); }, "KB09"},
	{"KB09_hole_after_hugetlb_2m", Backing::hugetlb_2m, 4 * huge_2m,
		[] { return holed(plain(Backing::hugetlb_2m, 4 * huge_2m), 2 * huge_2m, huge_2m); },
		"KB09"},
	{"KB09_hole_near_end_of_128_mib", Backing::thp, 0,
		[] { return holed(cold(Backing::thp, 128 * mib), 126 * mib + 7 * page); }, "KB09"},
	{"KB09_thp_read_only_page_for_write", Backing::thp, 0,
		[] {
			return protect(plain(Backing::thp, 2 * huge_2m), huge_2m + 77 * page, page,
				PROT_READ, EFAULT);
		},
		"KB09"},
};

INSTANTIATE_TEST_SUITE_P(Table, MapMemory, testing::ValuesIn(memory_rows), row_name<MemoryRow>);

using MemoryCase = VfioCase;

/* One 1 GiB page at several offsets: one case, because clearing it takes long. */
TEST_F(MemoryCase, HugePage1GiB)
{
	NEED_DEVICES(1);
	NEED_MEMORY(Backing::hugetlb_1g, gib);
	const bool edu = has_edu();
	const auto pool = free_huge_pages(huge_1g);

	{
		struct {
			const char *name;
			std::size_t at, size;
			std::uint64_t iova;
		} const parts[] = {
			{"whole", 0, gib, gib},
			{"odd_start", page, 32 * huge_2m - page, gib},
			{"odd_alike", 3 * page, gib - 10 * page, gib + 3 * page},
			{"iova_2m", 0, gib, gib + huge_2m},
			{"iova_odd", 0, 64 * huge_2m, gib + page},
			{"inside", 300 * huge_2m + 5 * page, 3 * huge_2m, gib},
			{"last_page", gib - page, page, gib},
		};
		Rig rig = edu ? open_dma_rig() : open_rig();
		const Memory scratch = Memory::map(3 * page);
		Scene scene{.memory = allocate(Backing::hugetlb_1g, gib)};

		want_errno("scratch", rig.container.map(scratch_iova, scratch.data(), 3 * page), 0);
		/* The first map is of cold memory. */
		for (const auto &p : parts) {
			const std::string key = p.name;

			want_errno(key + ".map",
				rig.container.map(p.iova, scene.memory.at(p.at), p.size), 0);
			want(key + ".charged", charged() - 3, p.size / page);
			scene.at = p.at;
			scene.size = p.size;
			scene.iova = p.iova;
			fill(scene.memory.bytes(p.at, probe_bytes), 5);
			fill(scene.memory.bytes(p.at + p.size / page / 2 * page, probe_bytes), 6);
			if (edu)
				want(key + ".device", device_check(rig, scratch, scene), "good");
			want_unmapped(
				key + ".unmap", rig.container.unmap(p.iova, p.size), p.size / page);
			want(key + ".charged.unmapped", charged(), 3);
			want(key + ".pool", free_huge_pages(huge_1g) == *pool - 1, true);
		}
	}
	want("pool", free_huge_pages(huge_1g) == pool, true);
}

TEST_F(MemoryCase, SameMemoryTwice)
{
	NEED_DEVICES(1);
	for (const Backing backing : {Backing::small, Backing::thp, Backing::memfd}) {
		const std::string key = name(backing);
		const Rig rig = open_rig();
		const Memory ram = allocate(backing, huge_2m);

		want_errno(key + ".first", rig.container.map(iova0, ram.data(), huge_2m), 0);
		want_errno(key + ".second", rig.container.map(2 * iova0, ram.data(), huge_2m), 0);
		/* Overlapping in memory, not in iova. */
		want_errno(key + ".half",
			rig.container.map(3 * iova0, ram.at(huge_2m / 2), huge_2m / 2), 0);
		want(key + ".charged", charged(), 1280);
		want_unmapped(key + ".unmap.first", rig.container.unmap(iova0, huge_2m), 512);
		want(key + ".charged.left", charged(), 768);
		want_unmapped(key + ".unmap.half", rig.container.unmap(3 * iova0, huge_2m), 256);
		want_unmapped(key + ".unmap.second", rig.container.unmap(2 * iova0, huge_2m), 512);
	}
}

/* The program's own data: private and written, in a file mapping and in bss. */
TEST_F(MemoryCase, ProgramData)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();

	fill(bss, 3);
	want_errno("bss", rig.container.map(iova0, bss, sizeof(bss)), 0);
	want("bss.charged", charged(), 4);
	want_unmapped("bss.unmap", rig.container.unmap(iova0, sizeof(bss)), 4);
	want("bss.contents", filled(bss, 3), true);

	const auto text = reinterpret_cast<std::uintptr_t>(&row_name<MemoryRow>) & ~(page - 1);

	want_errno("text.write", rig.container.map_addr(iova0, text, page), EFAULT);
	want_errno("text.read", rig.container.map_addr(iova0, text, page, rd), 0);
	want("text.charged", charged(), 1);
	want_unmapped("text.unmap", rig.container.unmap(iova0, page), 1);
}

/* vdso and vvar: kernel pages in a process. Nobody needs them mapped; it must be safe. */
TEST_F(MemoryCase, VdsoAndVvar)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const std::uint64_t vdso = ::getauxval(AT_SYSINFO_EHDR);

	if (!vdso)
		GTEST_SKIP() << "this process has no vdso";
	/* Pages of the kernel image: reserved, so the stock driver unpins none of them. */
	stock_may_leave_pins();
	want_errno("vdso.write", rig.container.map_addr(iova0, vdso, page), EFAULT);
	see_errno("vdso.read", rig.container.map_addr(iova0, vdso, page, rd));
	see("vdso.charged", charged());
	see("vdso.unmap", rig.container.unmap(iova0, page).value);
	/* vvar lies before the vdso; its first page is the clock's. */
	see_errno("vvar.read", rig.container.map_addr(iova0, vdso - 4 * page, page, rd));
	see("vvar.charged", charged());
	see("vvar.unmap", rig.container.unmap(iova0, page).value);
}

} // namespace selftest
