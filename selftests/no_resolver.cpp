// SPDX-License-Identifier: GPL-2.0-only
/*
 * gtest can stream results over TCP, which nobody asks of it here, and so wants
 * a resolver. glibc's does not work in a static program, and the linker warns
 * about it in every build: this one is never called and refuses.
 */
#include <netdb.h>

extern "C" int getaddrinfo(const char *, const char *, const addrinfo *, addrinfo **)
{
	return EAI_FAIL;
}

extern "C" void freeaddrinfo(addrinfo *) {}
