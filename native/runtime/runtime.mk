# SPDX-License-Identifier: Apache-2.0
#
# Included by the Makefile of a generated clone, whose directory has tables.c and blocks.S, and the runtime in runtime/:
#
#     include runtime/runtime.mk
#
# Needs make and a C compiler; gives build/clone, one static binary.
RUNTIME_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
CC ?= cc
CFLAGS ?= -O2 -g0
CLONE_CFLAGS := -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -pthread -I$(RUNTIME_DIR)
CLONE_C := $(wildcard $(RUNTIME_DIR)/*.c) $(wildcard *.c)
CLONE_S := $(wildcard *.S)
CLONE_O := $(patsubst %.c,build/%.o,$(notdir $(CLONE_C))) $(patsubst %.S,build/%.o,$(CLONE_S))

vpath %.c $(RUNTIME_DIR) .

all: build/clone

build/clone: $(CLONE_O)
	$(CC) -static -pthread -Wl,--build-id=none -o $@ $(CLONE_O)

build/%.o: %.c $(wildcard $(RUNTIME_DIR)/*.h) | build
	$(CC) $(CLONE_CFLAGS) $(CFLAGS) -c -o $@ $<

build/%.o: %.S | build
	$(CC) -c -o $@ $<

build:
	mkdir -p build

clean:
	rm -rf build

.PHONY: all clean
