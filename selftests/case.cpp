// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fixture: recording, containers, and the checks after each case.
 */
#include "case.hpp"

#include "proc.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace selftest
{

void Rig::close()
{
	engines.clear();
	devices.clear();
	groups.clear();
	container.close();
}

/*
 * gtest knows the result of a case only after TearDown, so results are taken
 * from its events and not from the fixture.
 */
class OutcomeListener : public testing::EmptyTestEventListener
{
	void OnTestStart(const testing::TestInfo &info) override
	{
		CaseOutcome outcome;

		outcome.name = std::string(info.test_suite_name()) + "." + info.name();
		env().outcome.cases.push_back(std::move(outcome));
	}
	void OnTestPartResult(const testing::TestPartResult &part) override
	{
		if (env().outcome.cases.empty())
			return;
		std::string &reason = env().outcome.cases.back().reason;

		/* What failed first says more than what came of it. */
		if (part.type() == testing::TestPartResult::kSkip ||
			(part.failed() && reason.empty()))
			reason = part.message();
	}
	void OnTestEnd(const testing::TestInfo &info) override
	{
		const testing::TestResult &result = *info.result();

		/* Skipped() is false for a case that failed after its skip. */
		env().outcome.cases.back().result = result.Failed()    ? "failed"
						    : result.Skipped() ? "skipped"
								       : "passed";
	}
};

void install_outcome_listener()
{
	testing::UnitTest::GetInstance()->listeners().Append(new OutcomeListener);
}

static CaseOutcome &current()
{
	return env().outcome.cases.back();
}

Notes &VfioCase::notes()
{
	return current().notes;
}

void VfioCase::SetUp()
{
	const auto pins = pin_balance();

	/* Or else no case could tell that a pin is lost. */
	ASSERT_TRUE(pins) << "this kernel does not count pins: no nr_foll_pin_acquired and "
			     "nr_foll_pin_released in /proc/vmstat";
	pins_before_ = *pins;
	locked_before_ = vm_locked_pages();
	ready_ = true;
}

void VfioCase::TearDown()
{
	if (testing::Test::IsSkipped() || !ready_)
		return;
	want("after.VmLck", charged(), 0);
	want("after.VmPin", vm_pinned_pages(), 0);
	if (leave_pins_)
		see("after.pinned", pinned());
	else
		want("after.pinned", pinned(), 0);
}

void VfioCase::expect_equal(
	const std::string &key, const Value &actual, const Value &expected, Where where)
{
	if (actual != expected)
		ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line()))
			<< key << ": " << show(actual) << ", expected " << show(expected);
}

void VfioCase::see_errno(const std::string &key, const Result &result)
{
	see(key, errno_name(result.err));
}

void VfioCase::want_errno(const std::string &key, const Result &result, int expected, Where where)
{
	want(key, errno_name(result.err), errno_name(expected), where);
}

void VfioCase::want_unmapped(
	const std::string &key, const Result &result, std::size_t pages, Where where)
{
	want_errno(key, result, 0, where);
	want(key + ".pages", result.value / static_cast<long>(page), pages, where);
}

void VfioCase::take(const std::string &prefix, const Notes &child, Where where)
{
	for (const char *bad : {"ended", "exception"})
		if (const Value *value = child.find(bad))
			ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line()))
				<< "child process: " << bad << " " << show(*value);
	notes().append(prefix, child);
}

void VfioCase::expect_noted(const std::string &key, const Value &expected, Where where)
{
	const Value *value = notes().find(key);

	expect_equal(key, value ? *value : Value{std::string("(not observed)")}, expected, where);
}

void VfioCase::covers(std::initializer_list<const char *> numbers)
{
	current().covers.insert(current().covers.end(), numbers.begin(), numbers.end());
}

Result VfioCase::set_iommu(Container &container, unsigned long type, Where where)
{
	const Result result = container.set_iommu(type);

	if (!result.ok())
		return result;
	if (const auto why = backend_mismatch(container.backend(), env().wanted))
		ADD_FAILURE_AT(where.file_name(), static_cast<int>(where.line())) << *why;
	return result;
}

static std::runtime_error refused(const std::string &what, const Result &result)
{
	return std::runtime_error(what + ": " + errno_name(result.err));
}

Rig VfioCase::open_rig(std::size_t n, unsigned long type, std::size_t first)
{
	Rig rig;

	rig.container = Container::open();
	for (std::size_t i = first; i < first + n; i++) {
		rig.groups.push_back(Group::open(env().devices.at(i).group));
		const Result result = rig.groups.back().set_container(rig.container);

		if (!result.ok())
			throw refused("VFIO_GROUP_SET_CONTAINER", result);
	}
	const Result result = set_iommu(rig.container, type);

	if (!result.ok())
		throw refused("VFIO_SET_IOMMU", result);
	return rig;
}

Rig VfioCase::open_dma_rig(std::size_t n, std::size_t first)
{
	/* 0: all of them, since copies run in parallel */
	if (!n)
		n = env().devices.size() - first;
	Rig rig = open_rig(n, VFIO_TYPE1v2_IOMMU, first);

	for (std::size_t i = 0; i < n; i++) {
		rig.devices.push_back(Device::open(rig.groups[i], env().devices.at(first + i).bdf));
		rig.engines.emplace_back(rig.devices.back());
	}
	return rig;
}

std::int64_t VfioCase::charged() const
{
	return vm_locked_pages() - locked_before_;
}

std::int64_t VfioCase::pinned() const
{
	return pin_balance().value() - pins_before_;
}

bool VfioCase::is_stock()
{
	return env().outcome.driver != "mt" && !std::getenv("VFIO_MT_SHOW_STOCK_BUGS");
}

bool VfioCase::has_devices(std::size_t n)
{
	current().needs.push_back("devices>=" + std::to_string(n));
	if (env().devices.size() >= n)
		return true;
	lack_ = "needs " + std::to_string(n) + " devices in different IOMMU groups, has " +
		std::to_string(env().devices.size());
	return false;
}

bool VfioCase::has_edu()
{
	current().needs.push_back("edu");
	if (all_edu())
		return true;
	lack_ = "needs devices that are all QEMU's edu (1234:11e8), for its DMA engine";
	return false;
}

bool VfioCase::has_cpus(unsigned n)
{
	const unsigned cpus = std::thread::hardware_concurrency();

	current().needs.push_back("cpus>=" + std::to_string(n));
	if (cpus >= n)
		return true;
	lack_ = "needs " + std::to_string(n) + " CPUs, has " + std::to_string(cpus);
	return false;
}

bool VfioCase::has_memory(Backing backing, std::size_t size)
{
	current().needs.push_back(
		std::string(name(backing)) + ":" + std::to_string(size / mib) + "MiB");
	const auto why = lacking(backing, size);

	if (why)
		lack_ = *why;
	return !why;
}

} // namespace selftest
