"""Words of the verbose build log of 8.4, 8.6 and 10: fusions, removals, kernels tried."""

from __future__ import annotations

from engines.report.steps import Removal, StepReader, Steps, parts_of, said
from engines.report.tuning import Tuning, TuningReader

STEPS = """\
[VERBOSE] Original: 755 layers
[VERBOSE] After dead-layer removal: 755 layers
[VERBOSE] Running: ConstShuffleFusion on squeeze_output
[VERBOSE] ConstShuffleFusion: Fusing squeeze_output with (Unnamed Layer* 635) [Shuffle]
[VERBOSE] Running: ConvReluFusion on conv2
[VERBOSE] ConvReluFusion: Fusing conv2 with relu2
[VERBOSE] Running: QConvScaleFusion on conv1
[VERBOSE] Removing bn1 + relu1
[VERBOSE] Running: HorizontalMergeQNodes on q2
[VERBOSE] Eliminating q3 which duplicates (Q) q2
[VERBOSE] Removing q3
[VERBOSE] Running: QuantizeDoubleInputNodes on conv1
[VERBOSE] QuantizeDoubleInputNodes: fusing q4 into conv1
[VERBOSE] QuantizeDoubleInputNodes: fusing (x_dq and w_dq) into conv1
[VERBOSE] Removing q4
[VERBOSE] Running: PoolingErasure on avgpool
[VERBOSE] Removing avgpool
[VERBOSE] After final dead-layer removal: 153 layers
[VERBOSE] Eliminating slice split1 by retargeting split1_output from split1_output to concat4
[VERBOSE] Eliminating concatenation concat10
"""

OLD = """\
[INFO] Global timing cache in use. Profiling results in this builder pass will be stored.
[VERBOSE] =============== Computing reformatting costs
[VERBOSE] *************** Autotuning Reformat: Float(1,1,1) -> Float(1:4,1,1) ***************
[VERBOSE] --------------- Timing Runner: Optimizer Reformat(<in> -> <out>) (Reformat)
[VERBOSE] Tactic: 0x00000000000003e8 Time: 0.00582967
[VERBOSE] Tactic: 0x00000000000003ea Time: 0.0141162
[VERBOSE] Fastest Tactic: 0x00000000000003e8 Time: 0.00582967
[VERBOSE] =============== Computing costs for
[VERBOSE] *************** Autotuning format combination: Half(9,1) -> Half(9,1) ***************
[VERBOSE] --------------- Timing Runner: conv1 + relu1 (CudaDepthwiseConvolution)
[VERBOSE] CudaDepthwiseConvolution has no valid tactics for this config, skipping
[VERBOSE] --------------- Timing Runner: conv1 + relu1 (CaskConvolution)
[VERBOSE] conv1 + relu1 Set Tactic Name: sm80_a Tactic: 0x028e842ce51fbd9d
[VERBOSE] Tactic: 0x028e842ce51fbd9d Time: 0.323858
[VERBOSE] conv1 + relu1 Set Tactic Name: sm80_b Tactic: 0x048dc59a1807b5bb
[VERBOSE] Tactic: 0x048dc59a1807b5bb Time: 0.473294
[VERBOSE] Fastest Tactic: 0x028e842ce51fbd9d Time: 0.323858
[VERBOSE] >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0x028e842ce51fbd9d
[VERBOSE] *************** Autotuning format combination: Half(9,1) -> Float(9,1) ***************
[VERBOSE] --------------- Timing Runner: conv1 + relu1 (CaskConvolution)
[VERBOSE] CaskConvolution has no valid tactics for this config, skipping
[VERBOSE] =============== Computing costs for
[VERBOSE] *************** Autotuning format combination: Half(9,1) -> Half(9,1) ***************
[INFO] Engine generation completed in 8.62539 seconds.
"""

TEN = """\
[11/01/2024-10:32:48] [V] [TRT] =============== Computing costs for conv1 + relu1
[10:32:48] [V] [TRT] *************** Autotuning format combination: A -> B ***************
[11/01/2024-10:32:48] [V] [TRT] --------------- Timing Runner: conv1 + relu1 (CaskConvolution[0x8])
[11/01/2024-10:32:48] [V] [TRT] Tactic Name: ampere_a Tactic: 0x5deb29b7a8e275f7 Time: 0.0521752
[11/01/2024-10:32:48] [V] [TRT] Tactic Name: ampere_b Tactic: 0xd828f024626fa982 Time: 0.0513463
[11/01/2024-10:32:48] [V] [TRT] conv1 + relu1 (CaskConvolution[0x8]) profiling completed in 0.08 \
seconds. Fastest Tactic: 0xd828f024626fa982 Time: 0.0513463
[11/01/2024-10:32:48] [V] [TRT] Skipping CaskFlattenConvolution: No valid tactics for conv1 + relu1
[11/01/2024-10:32:48] [V] [TRT] >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0xd828
[10:32:49] [V] [TRT] *************** Autotuning format combination: A -> C ***************
[11/01/2024-10:32:49] [V] [TRT] Skipping CaskConvolution: No valid tactics for conv1 + relu1
[11/01/2024-10:32:49] [V] [TRT] Skipping CaskFlattenConvolution: No valid tactics for conv1 + relu1
[10:32:49] [V] [TRT] *************** Autotuning format combination: A -> D ***************
[11/01/2024-10:32:49] [I] [TRT] Local timing cache in use. Profiling results in this builder pass \
will not be stored.
"""


def steps(text: str) -> Steps:
    reader = StepReader()
    for line in text.splitlines():
        reader.take(said(line))
    return reader.result()


def tuning(text: str) -> Tuning:
    reader = TuningReader()
    for line in text.splitlines():
        reader.take(said(line))
    return reader.result()


def test_the_severity_and_the_time_of_a_line_are_no_part_of_what_is_said():
    assert said("[VERBOSE] Removing a") == "Removing a"
    assert said("[11/01/2024-10:32:48] [V] [TRT] Removing a\n") == "Removing a"
    assert said("Removing [a] b") == "Removing [a] b"


def test_a_fused_name_is_taken_apart():
    assert parts_of("conv1 + relu1 || conv2 + relu2") == ["conv1", "relu1", "conv2", "relu2"]
    assert parts_of("PWN(PWN(mul_1 + c, div_1), PWN(sub_1, sub_2))") == [
        "mul_1",
        "c",
        "div_1",
        "sub_1",
        "sub_2",
    ]
    assert parts_of("a + PWN(sigmoid, mul) + b") == ["a", "sigmoid", "mul", "b"]
    assert parts_of("plain") == ["plain"]


def test_fusions_are_counted_and_removals_have_a_reason():
    found = steps(STEPS)
    assert found.layers_left == (("Original", 755), ("After final dead-layer removal", 153))
    assert found.fusions == {
        "QuantizeDoubleInputNodes": 2,
        "ConstShuffleFusion": 1,
        "ConvReluFusion": 1,
    }
    absorbed = Removal(into="conv1", why="part of it now (QConvScaleFusion)")
    quantized = Removal(into="conv1", why="part of it now (QuantizeDoubleInputNodes)")
    assert found.removals == {
        "bn1": absorbed,
        "relu1": absorbed,
        "q3": Removal(into=None, why="the same as q2"),
        "q4": quantized,
        "x_dq": quantized,
        "w_dq": quantized,
        "avgpool": Removal(into=None, why="removed (PoolingErasure)"),
        "split1": Removal(into=None, why="its readers read from the whole tensor"),
        "concat10": Removal(into=None, why="its inputs are written side by side at once"),
    }


def test_kernels_of_8_6():
    found = tuning(OLD)
    assert (found.cache, found.seconds) == ("global", 8.62539)
    assert (found.combinations, found.reused, found.candidates) == (2, 1, 2)
    assert found.reformats_timed == 2
    [(name, layer)] = found.layers.items()
    assert name == "conv1 + relu1"
    assert (layer.combinations, layer.reused, layer.candidates) == (1, 0, 2)
    assert (layer.fastest_ms, layer.slowest_ms) == (0.323858, 0.473294)


def test_kernels_of_10():
    found = tuning(TEN)
    assert (found.cache, found.seconds) == ("local", None)
    layer = found.layers["conv1 + relu1"]
    assert (layer.combinations, layer.reused, layer.candidates) == (2, 1, 2)
    assert (layer.fastest_ms, layer.slowest_ms) == (0.0513463, 0.0521752)


def test_a_log_of_other_words_says_nothing():
    found = tuning("Tactic: 0x1 Time: soon\nnothing\n")
    assert (found.combinations, found.candidates, found.layers) == (0, 0, {})
    assert steps("Fusing nothing\n") == Steps(layers_left=(), fusions={}, removals={})
