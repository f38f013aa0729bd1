/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture that all functional cases share. It records what a case sees,
 * gives it containers with groups, and checks after each case that nothing
 * stayed charged or pinned.
 *
 * A case looks like this:
 *
 *	TEST_F(Map, SameMemoryTwice)
 *	{
 *		NEED_DEVICES(1);
 *		Rig rig = open_rig();
 *		Memory ram = Memory::map(4 * page);
 *
 *		want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
 *		want("VmLck", charged(), 4);
 *	}
 *
 * see() records only: for what the ABI leaves open. want() records and expects
 * a value: for what the ABI says. Both go into the outcome, so a difference
 * between two drivers is found even where nothing is expected. Keys must be
 * unique within a case.
 */
#pragma once

#include "child.hpp"
#include "edu.hpp"
#include "environment.hpp"
#include "memory.hpp"
#include "outcome.hpp"
#include "vfio.hpp"

#include <gtest/gtest.h>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <source_location>
#include <string>
#include <vector>

namespace selftest
{

/* Where cases map when they do not care: below every reserved range, and low
 * enough for the 28 address bits that an edu device has by default. */
inline constexpr std::uint64_t iova0 = 0x1000000;

/* Closes in the order devices, groups, container; any part may be closed earlier. */
struct Rig {
	Container container;
	std::vector<Group> groups;
	std::vector<Device> devices;
	std::vector<Edu> engines;

	/* Everything, so that the mappings are gone. */
	void close();
};

class VfioCase : public testing::Test
{
protected:
	using Where = std::source_location;

	void SetUp() override;
	void TearDown() override;

	Notes &notes();

	template <class T> void see(const std::string &key, T value)
	{
		notes().put(key, std::move(value));
	}
	template <class T, class U>
	void want(const std::string &key, T actual, U expected, Where where = Where::current())
	{
		expect_equal(key, to_value(actual), to_value(expected), where);
		notes().put(key, std::move(actual));
	}
	void see_errno(const std::string &key, const Result &result);
	void want_errno(const std::string &key, const Result &result, int expected,
		Where where = Where::current());
	/* An unmap: errno, and KEY.pages, the 4 KiB pages that the kernel reports. */
	void want_unmapped(const std::string &key, const Result &result, std::size_t pages,
		Where where = Where::current());
	/* Take over a child's notes; it must have ended by itself. */
	void take(const std::string &prefix, const Notes &child, Where where = Where::current());
	/* An expectation on something already recorded. */
	void expect_noted(
		const std::string &key, const Value &expected, Where where = Where::current());

	/* Numbers of doc/known-bugs.md that this case is about. */
	void covers(std::initializer_list<const char *> numbers);

	/* Opens groups [first, first + n) of the environment, and sets the IOMMU. Verifies who
	 * answers. Throws when something refuses. */
	Rig open_rig(
		std::size_t n = 1, unsigned long type = VFIO_TYPE1v2_IOMMU, std::size_t first = 0);
	/* The same with device descriptors, and engines where the devices are edu. */
	Rig open_dma_rig(std::size_t n = 0, std::size_t first = 0);
	/* SET_IOMMU with the check who answers. */
	Result set_iommu(Container &container, unsigned long type, Where where = Where::current());

	/* Pages charged (VmLck) since the case began. */
	std::int64_t charged() const;
	/* Pages pinned since the case began, of the whole machine. While something is mapped
	 * this depends on how a driver pins: never record it then. */
	std::int64_t pinned() const;

	/* Is it the stock driver that answers? It has bugs that ours must not have. With the
	 * variable VFIO_MT_SHOW_STOCK_BUGS the answer is no, to see that it has them. */
	static bool is_stock();
	/* want() from ours; from the stock driver, which is known to do otherwise, see(). */
	template <class T, class U>
	void want_ours(const std::string &key, T actual, U expected, Where where = Where::current())
	{
		if (is_stock())
			see(key, std::move(actual));
		else
			want(key, std::move(actual), std::move(expected), where);
	}
	/* The same for something already recorded. */
	template <class U>
	void expect_ours(const std::string &key, U expected, Where where = Where::current())
	{
		if (!is_stock())
			expect_noted(key, to_value(std::move(expected)), where);
	}
	/* For a case about pins that the stock driver is known to lose: of it, TearDown
	 * records the balance and does not expect it to be zero. */
	void stock_may_leave_pins() { leave_pins_ = is_stock(); }

	/* For the macros below. */
	bool has_devices(std::size_t n);
	bool has_edu();
	bool has_memory(Backing backing, std::size_t size);
	bool has_cpus(unsigned n);
	const std::string &lack() const { return lack_; }

private:
	void expect_equal(
		const std::string &key, const Value &actual, const Value &expected, Where where);

	bool ready_ = false;
	std::int64_t locked_before_ = 0;
	std::int64_t pins_before_ = 0;
	bool leave_pins_ = false;
	std::string lack_;
};

/* Cases with a table of rows. Row needs a member name, which becomes the case's. */
template <class Row> class RowCase : public VfioCase, public testing::WithParamInterface<Row>
{
};

template <class Row> std::string row_name(const testing::TestParamInfo<Row> &info)
{
	return info.param.name;
}

/* So that gtest prints a row's name, and not its bytes. */
template <class Row>
requires requires(const Row &row)
{
	std::string(row.name);
}
std::ostream &operator<<(std::ostream &out, const Row &row)
{
	return out << row.name;
}

/* Skips, visibly and in the outcome, when the machine lacks something. */
#define NEED_DEVICES(n)                                                                            \
	if (!has_devices(n))                                                                       \
	GTEST_SKIP() << lack()
#define NEED_EDU()                                                                                 \
	if (!has_edu())                                                                            \
	GTEST_SKIP() << lack()
#define NEED_MEMORY(backing, size)                                                                 \
	if (!has_memory(backing, size))                                                            \
	GTEST_SKIP() << lack()
/* A driver uses no more threads than there are CPUs. */
#define NEED_CPUS(n)                                                                               \
	if (!has_cpus(n))                                                                          \
	GTEST_SKIP() << lack()

/*
 * For what the stock driver does wrong in a way that would spoil the machine. With
 * the variable VFIO_MT_SHOW_STOCK_BUGS it is run all the same, to see that it does.
 */
#define NOT_ON_STOCK(why)                                                                          \
	if (is_stock())                                                                            \
	GTEST_SKIP() << "not with the stock driver: " << why

/* Fills env().outcome.cases from gtest's results; main installs it. */
void install_outcome_listener();

} // namespace selftest
