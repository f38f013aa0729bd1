/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls of /dev/iommu, and those of a VFIO device that belong to them, as far as they
 * are used here. Debian 12's headers are those of Linux 6.1, which has none of them; these
 * have been what they are since 6.6.
 */
#pragma once

#include <cstdint>
#include <linux/vfio.h>
#include <sys/ioctl.h>

namespace selftest::iommufd_abi
{

/* Each structure of /dev/iommu begins with its own size. */
struct IoasAlloc {
	std::uint32_t size;
	std::uint32_t flags;
	std::uint32_t ioas; /* out: the new address space */
};
static_assert(sizeof(IoasAlloc) == 12);

struct IoasMap {
	std::uint32_t size;
	std::uint32_t flags; /* map_* */
	std::uint32_t ioas;
	std::uint32_t reserved;
	std::uint64_t user_va;
	std::uint64_t length;
	std::uint64_t iova;
};
static_assert(sizeof(IoasMap) == 40);

struct IoasUnmap {
	std::uint32_t size;
	std::uint32_t ioas;
	std::uint64_t iova;
	std::uint64_t length; /* out: the bytes unmapped */
};
static_assert(sizeof(IoasUnmap) == 24);

inline constexpr std::uint32_t map_fixed_iova = 1 << 0;
inline constexpr std::uint32_t map_writeable = 1 << 1;
inline constexpr std::uint32_t map_readable = 1 << 2;

inline constexpr unsigned long ioas_alloc = _IO(';', 0x81);
inline constexpr unsigned long ioas_map = _IO(';', 0x85);
inline constexpr unsigned long ioas_unmap = _IO(';', 0x86);

/* Of a device that was opened by its own node, not through its group */
struct BindIommufd {
	std::uint32_t argsz;
	std::uint32_t flags;
	std::int32_t iommufd;
	std::uint32_t device; /* out: its number there */
};
static_assert(sizeof(BindIommufd) == 16);

struct AttachIommufd {
	std::uint32_t argsz;
	std::uint32_t flags;
	std::uint32_t pt; /* the address space; out: the page table made for it */
};
static_assert(sizeof(AttachIommufd) == 12);

inline constexpr unsigned long bind_iommufd = _IO(VFIO_TYPE, VFIO_BASE + 18);
inline constexpr unsigned long attach_iommufd = _IO(VFIO_TYPE, VFIO_BASE + 19);

} // namespace selftest::iommufd_abi
