#ifndef APUS_CKVM_H
#define APUS_CKVM_H
#include <linux/kvm.h>
#endif
