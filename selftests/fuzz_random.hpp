/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random numbers that are the same on every machine: splitmix64. Each step of a
 * sequence has a generator of its own, so that leaving steps out does not change
 * what the others choose.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace selftest
{

class Random
{
public:
	explicit Random(std::uint64_t seed, std::uint64_t stream = 0)
		: state_(seed * 0xbf58476d1ce4e5b9U + stream * 0x94d049bb133111ebU)
	{
		next();
	}

	std::uint64_t next()
	{
		std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
		return z ^ (z >> 31);
	}

	/* [0, n). The bias of a plain remainder does not matter here. */
	std::uint64_t below(std::uint64_t n) { return n ? next() % n : 0; }
	/* [first, last] */
	std::uint64_t between(std::uint64_t first, std::uint64_t last)
	{
		return first + below(last - first + 1);
	}
	bool chance(unsigned percent) { return below(100) < percent; }
	/* Small numbers often, up to max now and then: each magnitude is as likely. */
	std::uint64_t magnitude(std::uint64_t max)
	{
		unsigned bits = 0;

		while (bits < 63 && max >> (bits + 1))
			bits++;
		const std::uint64_t n = 1 + below(2ULL << below(bits + 1));

		return n < max ? n : max;
	}
	template <class List> auto &pick(List &list) { return list[below(std::size(list))]; }
	template <class T> T one_of(std::initializer_list<T> list)
	{
		return list.begin()[below(list.size())];
	}

private:
	std::uint64_t state_;
};

} // namespace selftest
