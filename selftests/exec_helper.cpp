// SPDX-License-Identifier: GPL-2.0-only
/*
 * The exec()ed half of Lifecycle.KB03_Exec: argv is
 *
 *	--exec-helper CONTAINER_FD NOTES_FD IOVA PAGES
 */
#include "exec_helper.hpp"

#include "memory.hpp"
#include "outcome.hpp"
#include "proc.hpp"
#include "vfio.hpp"

#include <cstdlib>
#include <sys/ioctl.h>
#include <unistd.h>

namespace selftest
{

int exec_helper_main(int argc, char **argv)
{
	if (argc != 6)
		return 3;
	const int container = std::atoi(argv[2]);
	const int notes_fd = std::atoi(argv[3]);
	vfio_iommu_type1_dma_unmap unmap = {};
	Notes notes;

	unmap.argsz = sizeof(unmap);
	unmap.iova = std::strtoull(argv[4], nullptr, 0);
	unmap.size = std::strtoull(argv[5], nullptr, 0) * page;
	notes.put("exec.VmLck", vm_locked_pages());
	const Result result = Result::of(::ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap));

	notes.put("exec.unmap", errno_name(result.err));
	notes.put("exec.unmap.pages", unmap.size / page);
	/* It charged the mm before the exec, not this one: no underflow here. */
	notes.put("exec.VmLck.after", vm_locked_pages());

	const std::string text = notes.serialize();

	return ::write(notes_fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0
												: 3;
}

} // namespace selftest
