#!/usr/bin/env python3
"""The models of `souk bench train` under Debian's python3-torch: the same specification, the same loss and
optimiser, built node by node.

  torch_train.py SPEC.json [--threads N] [--steps N] [--batch N] [--dtype f32|bf16] [--channels-last]
      one JSON object: ms_per_step_best, ms_per_step_median, examples_per_s, rss_mb, threads, blas, loss_first, loss_last
  torch_train.py SPEC.json --golden DIR
      trains on DIR/features.f32 and DIR/labels.i64 (all rows in every step) from DIR/weights.f32 (tensors in node
      order) and prints one loss per line.

Install libopenblas0-openmp as well: with Debian's reference BLAS, PyTorch's linear layers are 20 times slower, and a
comparison with that means nothing. "blas" says which library was in use.
"""
import argparse
import json
import os
import resource
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--golden")
    return parser.parse_args()


ARGS = arguments()
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)
import warnings

warnings.filterwarnings("ignore")
import torch
import torch.nn as nn
import torch.nn.functional as F


class Embedding(nn.Module):
    def __init__(self, node):
        super().__init__()
        self.columns = node["columns"]
        self.table = nn.Embedding(node["categories"], node["units"])

    def forward(self, x):
        return self.table(x[:, self.columns].long()).flatten(1)


class Columns(nn.Module):
    def __init__(self, node):
        super().__init__()
        self.columns = node["columns"]

    def forward(self, x):
        return x[:, self.columns]


class StandardConv(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        mean = w.mean((1, 2, 3), keepdim=True)
        w = (w - mean) / (w.var((1, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Join(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op

    def forward(self, *parts):
        return parts[0] + parts[1] if self.op == "add" else torch.cat(parts, 1)


def module(node, channels):
    """The module of a node, and the channels it gives; `channels` of its inputs."""
    op, c = node["op"], channels[0]
    if op == "linear":
        return nn.Linear(c, node["units"], bias=node["bias"]), node["units"]
    if op == "conv2d":
        kind = StandardConv if node["standardize"] else nn.Conv2d
        return kind(c, node["units"], node["kernel"], node["stride"], node["padding"], 1, node["groups"], node["bias"]), node["units"]
    if op == "max_pool":
        return nn.MaxPool2d(node["kernel"], node["stride"], node["padding"]), c
    if op == "avg_pool":
        return nn.AvgPool2d(node["kernel"], node["stride"], node["padding"], count_include_pad=False), c
    if op == "global_avg_pool":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), c
    if op == "group_norm":
        return nn.GroupNorm(node["groups"], c), c
    if op == "layer_norm":
        return nn.GroupNorm(1, c), c
    if op == "batch_norm":
        return nn.BatchNorm2d(c), c
    if op == "dropout":
        return nn.Dropout(float(node["rate"])), c
    if op == "embedding":
        return Embedding(node), len(node["columns"]) * node["units"]
    if op == "columns":
        return Columns(node), len(node["columns"])
    if op in ("add", "concat"):
        return Join(op), c if op == "add" else sum(channels)
    plain = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU, "flatten": nn.Flatten}
    if op == "leaky_relu":
        return nn.LeakyReLU(float(node["slope"])), c
    return plain[op](), c


class Network(nn.Module):
    """The general graph; chains are nn.Sequential instead, as a user would write them."""

    def __init__(self, nodes, modules):
        super().__init__()
        self.inputs = [node["inputs"] or [i] for i, node in enumerate(nodes)]
        self.parts = nn.ModuleList(modules)
        last = {}
        for i, inputs in enumerate(self.inputs):
            for source in inputs:
                last[source] = i
        self.done = [[s for s, at in last.items() if at == i] for i in range(len(nodes))]

    def forward(self, x):
        values = {0: x}
        for i, part in enumerate(self.parts):
            values[i + 1] = part(*[values[s] for s in self.inputs[i]])
            for source in self.done[i]:
                del values[source]
        return values[len(self.parts)]


def build(spec):
    shapes, modules = [tuple(spec["input_shape"])], []
    for i, node in enumerate(spec["model"]):
        inputs = node["inputs"] or [i]
        if node["op"] == "flatten":
            part, given = nn.Flatten(), None
        else:
            part, given = module(node, [shapes[s][0] for s in inputs])
        modules.append(part.eval() if node.get("frozen") else part)
        with torch.no_grad():
            probes = [torch.zeros(2, *shapes[s]) for s in inputs]
            shapes.append(tuple(part(*probes).shape[1:]))
    chain = all(not node["inputs"] for node in spec["model"])
    return nn.Sequential(*modules) if chain else Network(spec["model"], modules)


def loss_function(spec):
    if spec["loss"] == "softmax_cross_entropy":
        return nn.CrossEntropyLoss()
    compare = nn.BCEWithLogitsLoss() if spec["loss"] == "bce" else nn.MSELoss()

    def loss(outputs, labels):
        hot = labels.float()[:, None] if outputs.shape[1] == 1 else F.one_hot(labels, outputs.shape[1]).float()
        return compare(outputs, hot)

    return loss


def optimizer(spec, network):
    own, rate = spec["optimizer"], float(spec["learning_rate"][0]["value"])
    if own["kind"] == "sgd":
        return torch.optim.SGD(network.parameters(), lr=rate, momentum=float(own["momentum"]), nesterov=own["nesterov"])
    return torch.optim.AdamW(network.parameters(), lr=rate, betas=(float(own["beta1"]), float(own["beta2"])),
                             eps=float(own["epsilon"]), weight_decay=float(own["weight_decay"]))


def blas():
    with open("/proc/self/maps") as maps:
        names = {line.split("/")[-1].strip() for line in maps if "blas" in line or "mkl" in line}
    return " ".join(sorted(names)) or "none"


def golden(spec, folder):
    def read(name, kind):
        with open(os.path.join(folder, name), "rb") as file:
            return torch.frombuffer(bytearray(file.read()), dtype=kind)

    labels = read("labels.i64", torch.int64)
    x = read("features.f32", torch.float32).reshape(len(labels), *spec["input_shape"])
    weights, at = read("weights.f32", torch.float32), 0
    network = build(spec).train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(weights[at : at + parameter.numel()].reshape(parameter.shape))
            at += parameter.numel()
    assert at == len(weights), "expected as many weights as the network has"
    loss, step = loss_function(spec), optimizer(spec, network)
    for _ in range(spec["steps"]):
        value = loss(network(x), labels)
        step.zero_grad()
        value.backward()
        step.step()
        print(repr(value.item()))


def bench(spec):
    torch.manual_seed(0)
    batch = ARGS.batch or spec["batch"]
    network = build(spec).train()
    x, labels = torch.randn(batch, *spec["input_shape"]), torch.arange(batch) % spec["classes"]
    if ARGS.channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    loss, step, times, losses = loss_function(spec), optimizer(spec, network), [], []
    for _ in range(ARGS.steps):
        start = time.perf_counter()
        step.zero_grad()
        if ARGS.dtype == "bf16":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                value = loss(network(x), labels)
        else:
            value = loss(network(x), labels)
        value.backward()
        step.step()
        times.append(1000 * (time.perf_counter() - start))
        losses.append(value.item())
    times = sorted(times[2:] if len(times) > 4 else times)
    median = times[len(times) // 2]
    print(json.dumps({"ms_per_step_best": times[0], "ms_per_step_median": median, "examples_per_s": 1000 * batch / median,
                      "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "threads": ARGS.threads,
                      "blas": blas(), "loss_first": losses[0], "loss_last": losses[-1]}))


def main():
    torch.set_num_threads(ARGS.threads)
    with open(ARGS.spec) as file:
        spec = json.load(file)
    if ARGS.golden:
        golden(spec, ARGS.golden)
    else:
        bench(spec)


sys.exit(main())
