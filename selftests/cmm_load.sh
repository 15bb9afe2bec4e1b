#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The driver loads and unloads.
modprobe cmm && rmmod cmm
