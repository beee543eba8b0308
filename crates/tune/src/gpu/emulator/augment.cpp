#include "emulator.hpp"
namespace {
#include "../kernels/common.cuh"
#include "../kernels/pixels.cuh"
#include "../kernels/augment.cu"
}
const Entry augment_kernels[] = {KERNEL(augment), KERNEL(bring_tables), KERNEL(bytes_to_input), {nullptr, nullptr}};
