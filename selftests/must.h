/* SPDX-License-Identifier: GPL-2.0 */
/* For what can only fail if something is wrong. Whoever includes this says how to fail(). */
static long must(long result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}
