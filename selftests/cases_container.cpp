// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: the container itself. Extensions, choosing a type, attaching and
 * detaching groups, ioctls in the wrong state, the module's references.
 */
#include "case.hpp"
#include "proc.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace selftest
{

using ContainerCase = VfioCase;

TEST_F(ContainerCase, ApiVersion)
{
	NEED_DEVICES(1);
	want("unattached", Container::open().ioctl(VFIO_GET_API_VERSION, 0UL).value,
		VFIO_API_VERSION);
	const Rig rig = open_rig();

	want("attached", rig.container.ioctl(VFIO_GET_API_VERSION, 0UL).value, VFIO_API_VERSION);
}

static const std::vector<unsigned long> extensions = {0, VFIO_TYPE1_IOMMU, VFIO_SPAPR_TCE_IOMMU,
	VFIO_TYPE1v2_IOMMU, VFIO_DMA_CC_IOMMU, VFIO_EEH, VFIO_TYPE1_NESTING_IOMMU,
	VFIO_SPAPR_TCE_v2_IOMMU, VFIO_NOIOMMU_IOMMU, VFIO_UNMAP_ALL, VFIO_UPDATE_VADDR, 11, 12, 13,
	14, 15, 16, 17, 31, 32, 63, 64, 255, 0x7fffffff, 0xffffffff, ~0UL};

static long expected_extension(unsigned long number, bool attached)
{
	switch (number) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
		return 1;
	case VFIO_TYPE1_NESTING_IOMMU:
		return kernel_before(6, 13) ? 1 : 0;
	case VFIO_UPDATE_VADDR:
	case VFIO_DMA_CC_IOMMU: /* of this machine's IOMMU */
		return attached ? 1 : 0;
	default:
		return 0;
	}
}

TEST_F(ContainerCase, ExtensionsUnattached)
{
	NEED_DEVICES(1);
	const Container container = Container::open();

	for (const auto number : extensions)
		want("extension." + hex(number), container.extension(number).value,
			expected_extension(number, false));
}

TEST_F(ContainerCase, ExtensionsGroupButNoIommu)
{
	NEED_DEVICES(1);
	const Container container = Container::open();
	const Group group = Group::open(env().devices[0].group);

	want_errno("set_container", group.set_container(container), 0);
	for (const auto number : extensions)
		want("extension." + hex(number), container.extension(number).value,
			expected_extension(number, false));
}

TEST_F(ContainerCase, ExtensionsAttached)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();

	for (const auto number : extensions) {
		const long value = rig.container.extension(number).value;

		/* Coherency is the machine's; QEMU's IOMMUs differ in it. */
		if (number == VFIO_DMA_CC_IOMMU)
			see("extension." + hex(number), value);
		else
			want("extension." + hex(number), value, expected_extension(number, true));
	}
}

TEST_F(ContainerCase, ExtensionsAttachedV1)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig(1, VFIO_TYPE1_IOMMU);

	for (const auto number : extensions)
		see("extension." + hex(number), rig.container.extension(number).value);
}

TEST_F(ContainerCase, IoctlsWithoutIommu)
{
	NEED_DEVICES(1);
	const Container container = Container::open();
	const Group group = Group::open(env().devices[0].group);
	const Memory ram = Memory::map(page);

	for (const char *when : {"alone.", "with_group."}) {
		const std::string key = when;

		want_errno(key + "get_info", container.info().result, EINVAL);
		want_errno(key + "map", container.map(iova0, ram.data(), page), EINVAL);
		want_errno(key + "unmap", container.unmap(iova0, page), EINVAL);
		want_errno(key + "dirty", container.dirty_start(), EINVAL);
		want_errno(key + "unknown", container.ioctl(_IO(VFIO_TYPE, VFIO_BASE + 200), 0UL),
			EINVAL);
		if (key == "alone.")
			want_errno("set_container", group.set_container(container), 0);
	}
}

TEST_F(ContainerCase, UnknownIoctls)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();

	/* 18…: numbers that belong to other drivers or to nobody */
	for (const int number : {1, 2, 3, 4, 5, 6, 7, 15, 16, 18, 19, 20, 21, 50, 200, 255})
		see_errno("ioctl." + std::to_string(number),
			rig.container.ioctl(_IO(VFIO_TYPE, static_cast<unsigned>(number)), 0UL));
	want_errno(
		"ioctl.unknown", rig.container.ioctl(_IO(VFIO_TYPE, VFIO_BASE + 99), 0UL), ENOTTY);
	want_errno("ioctl.other_type", rig.container.ioctl(_IO('Z', 1), 0UL), ENOTTY);
}

TEST_F(ContainerCase, SetIommuWithoutGroup)
{
	NEED_DEVICES(1);
	Container container = Container::open();

	want_errno("set_iommu", container.set_iommu(VFIO_TYPE1v2_IOMMU), EINVAL);
}

TEST_F(ContainerCase, SetIommuTwice)
{
	NEED_DEVICES(1);
	Rig rig = open_rig();

	want_errno("same", rig.container.set_iommu(VFIO_TYPE1v2_IOMMU), EINVAL);
	want_errno("other", rig.container.set_iommu(VFIO_TYPE1_IOMMU), EINVAL);
}

struct TypeRow {
	const char *name;
	unsigned long type;
	int expected; /* errno, -1: only recorded */
};

using SetIommu = RowCase<TypeRow>;

TEST_P(SetIommu, Type)
{
	NEED_DEVICES(1);
	Container container = Container::open();
	const Group group = Group::open(env().devices[0].group);

	want_errno("set_container", group.set_container(container), 0);
	const Result result = set_iommu(container, GetParam().type);

	if (GetParam().expected < 0)
		see_errno("set_iommu", result);
	else
		want_errno("set_iommu", result, GetParam().expected);
	if (!result.ok())
		want_errno("then_v2", set_iommu(container, VFIO_TYPE1v2_IOMMU), 0);
	want_errno("get_info", container.info().result, 0);
}

INSTANTIATE_TEST_SUITE_P(Table, SetIommu,
	testing::Values(TypeRow{"v1", VFIO_TYPE1_IOMMU, 0}, TypeRow{"v2", VFIO_TYPE1v2_IOMMU, 0},
		/* Only VT-d supports it in 6.1, nothing from 6.13 on. */
		TypeRow{"nesting", VFIO_TYPE1_NESTING_IOMMU, -1}, TypeRow{"zero", 0, ENODEV},
		TypeRow{"spapr", VFIO_SPAPR_TCE_IOMMU, ENODEV},
		TypeRow{"dma_cc", VFIO_DMA_CC_IOMMU, ENODEV},
		TypeRow{"noiommu", VFIO_NOIOMMU_IOMMU, ENODEV},
		/* An extension that is answered 1, but no type: open() refuses it. */
		TypeRow{"unmap_all", VFIO_UNMAP_ALL, EINVAL},
		TypeRow{"update_vaddr", VFIO_UPDATE_VADDR, ENODEV}, TypeRow{"hundred", 100, ENODEV},
		TypeRow{"all_ones", ~0UL, ENODEV}),
	row_name<TypeRow>);

TEST_F(ContainerCase, AttachGroupTwice)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Container other = Container::open();

	want_errno("same_container", rig.groups[0].set_container(rig.container), EINVAL);
	want_errno("other_container", rig.groups[0].set_container(other), EINVAL);
	see_errno("open_group_again",
		Result::of(::open(("/dev/vfio/" + std::to_string(env().devices[0].group)).c_str(),
			O_RDWR | O_CLOEXEC)));
}

TEST_F(ContainerCase, GroupStatus)
{
	NEED_DEVICES(1);
	const Group group = Group::open(env().devices[0].group);
	Container container = Container::open();

	want("before", group.status().value, VFIO_GROUP_FLAGS_VIABLE);
	want_errno("unset_nothing", group.unset_container(), EINVAL);
	want_errno("set_container", group.set_container(container), 0);
	want("after", group.status().value,
		VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
	want_errno("device_without_iommu", group.device_fd(env().devices[0].bdf), EINVAL);
	want_errno("set_iommu", set_iommu(container, VFIO_TYPE1v2_IOMMU), 0);
	want_errno("unset", group.unset_container(), 0);
	want("last", group.status().value, VFIO_GROUP_FLAGS_VIABLE);
}

TEST_F(ContainerCase, DetachOnlyGroupDropsAll)
{
	NEED_DEVICES(1);
	Rig rig = open_rig();
	const Memory ram = Memory::map(16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("charged", charged(), 16);
	want_errno("unset", rig.groups[0].unset_container(), 0);
	want("charged.detached", charged(), 0);
	want("pinned.detached", pinned(), 0);
	want_errno("get_info", rig.container.info().result, EINVAL);

	/* The container starts anew, and may even become another type. */
	want_errno("set_container", rig.groups[0].set_container(rig.container), 0);
	want_errno("get_info.again", rig.container.info().result, EINVAL);
	want_errno("set_iommu", set_iommu(rig.container, VFIO_TYPE1_IOMMU), 0);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 0);
}

TEST_F(ContainerCase, UnsetWhileDeviceOpen)
{
	NEED_DEVICES(1);
	Rig rig = open_rig();
	const Memory ram = Memory::map(2 * page);

	rig.devices.push_back(Device::open(rig.groups[0], env().devices[0].bdf));
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("unset", rig.groups[0].unset_container(), EBUSY);
	want("charged", charged(), 2);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 2);
}

/* The mappings live until the last descriptor of container, group and device is closed. */
TEST_F(ContainerCase, CloseOrder)
{
	NEED_DEVICES(1);
	for (const char *order : {"container_first", "group_first", "device_last"}) {
		Rig rig = open_rig();
		const std::string key = order;
		const Memory ram = Memory::map(4 * page);

		rig.devices.push_back(Device::open(rig.groups[0], env().devices[0].bdf));
		want_errno(key + ".map", rig.container.map(iova0, ram.data(), ram.size()), 0);
		if (key == "container_first") {
			rig.container.close();
			want(key + ".1", charged(), 4);
			rig.devices[0].close();
			want(key + ".2", charged(), 4);
			rig.groups[0].close();
		} else if (key == "group_first") {
			rig.groups[0].close();
			want(key + ".1", charged(), 4);
			rig.devices[0].close();
		} else {
			rig.groups[0].close();
			rig.container.close();
			want(key + ".1", charged(), 4);
			rig.devices[0].close();
		}
		want(key + ".closed", charged(), 0);
		want(key + ".pinned", pinned(), 0);
	}
}

/* KB22: unloading is refused while a container is open; the references come back. */
TEST_F(ContainerCase, KB22_ModuleBusyWhileOpen)
{
	NEED_DEVICES(1);
	covers({"KB22"});
	std::string module;
	std::optional<std::int64_t> refs;

	{
		const Rig rig = open_rig();

		module = rig.container.backend().module;
		refs = module_refs(module);
		if (refs.value_or(0) < 1)
			GTEST_SKIP() << "the backend is not a module with a reference count";
		/* O_NONBLOCK: an answer, never a wait */
		see_errno("delete_module",
			Result::of(::syscall(SYS_delete_module, module.c_str(), O_NONBLOCK)));
	}
	want("released", *refs - module_refs(module).value_or(-100), 1);
}

TEST_F(ContainerCase, ParametersKeepTheirNames)
{
	NEED_DEVICES(1);
	const std::string module = open_rig().container.backend().module;

	if (module.empty())
		GTEST_SKIP() << "the backend is not a module";
	for (const char *name : {"allow_unsafe_interrupts", "disable_hugepages", "dma_entry_limit"})
		see(name, module_parameter(module, name).value_or("(none)"));
}

} // namespace selftest
