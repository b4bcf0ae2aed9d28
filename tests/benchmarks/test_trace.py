"""Kinds of work in the trace of a step."""

import pytest

from benchmarks.gpu.trace import device_shares


def launch(number, start):
    return {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": start, "dur": 1, "args": {"correlation": number}}


def work(number, name, start, duration, cat="kernel"):
    return {"cat": cat, "name": name, "ts": start, "dur": duration, "args": {"correlation": number}}


def operation(name, start, duration):
    return {"cat": "cpu_op", "name": name, "ts": start, "dur": duration}


def test_the_kinds_of_work_and_the_time_without_any():
    backward = "autograd::engine::evaluate_function: MmBackward0"
    events = [
        {"ph": "M", "name": "process_name", "args": {}},
        operation("aten::mm", 0, 5), operation(backward, 10, 20),
        *(launch(number, start) for number, start in enumerate((1, 2, 3, 4, 12, 25, 31, 32))),
        work(0, "nvjet_sm90_tst_128x256", 10, 20),
        work(1, "cudnn_generated_fort_native_sdpa_sm90_flash_fprop", 30, 10),
        work(2, "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16>", 40, 5),
        work(3, "void at::native::vectorized_elementwise_kernel<4, GeluCUDAKernelImpl>", 45, 5),
        work(4, "Memcpy HtoD (Pinned -> Device)", 12, 10, "gpu_memcpy"),
        work(5, "Memcpy DtoD (Device -> Device)", 50, 5, "gpu_memcpy"),
        work(6, "multi_tensor_apply_kernel<FusedAdamMathFunctor>", 80, 10),
        work(7, "nvjet_sm90_of_muon", 90, 10),
    ]  # fmt: skip
    assert device_shares(events) == pytest.approx(
        {
            "copies to the device": 0.10,
            "attention": 0.10,
            "matrix products": 0.20,
            "layer norm": 0.05,
            "copies on the device": 0.05,
            "dropout and other elementwise": 0.05,
            "optimiser": 0.20,
            "idle": 0.35,
        }
    )


def test_a_step_on_a_cpu_has_no_shares():
    assert device_shares([operation("aten::mm", 0, 5)]) == {}
