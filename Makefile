# SPDX-License-Identifier: GPL-2.0
.PHONY: help
help:
	@echo "coopmem"
