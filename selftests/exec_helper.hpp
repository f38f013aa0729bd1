/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What this program does when a case exec()s it: the process is the same, its
 * mm is new, and the container is still open. See cases_lifecycle.cpp.
 */
#pragma once

namespace selftest
{

inline constexpr const char *exec_helper_command = "--exec-helper";

int exec_helper_main(int argc, char **argv);

} // namespace selftest
