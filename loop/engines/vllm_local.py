"""Sampling with vLLM, inside the engine's child process (see `worker.py`).

The child owns vLLM's LLMEngine and steps it; new requests join between steps, so drafts, critiques
and revisions of different problems share batches. On the CPU build everything runs in this one
process (VLLM_ENABLE_V1_MULTIPROCESSING=0: it starts in 2 s, not 30); on a GPU vLLM keeps its own
core process behind the same calls.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.engines import adapters, sampler_local, scoring_local
from ouroloop.loop.engines.checkpoint import Checkpoint, check_checkpoint
from ouroloop.loop.errors import CheckpointError, EngineError
from ouroloop.loop.records import Completion, Request, Scored

# Up to this size all log-probabilities of a text that is scored are asked for. VLLM hands each
# over as a Python number.
SMALL_VOCABULARY = 2048
# Of a larger vocabulary: so many, and the rest as one. `engine.extra: {max_logprobs: -1}` asks
# for all even so.
TOP_TOKENS = 20


class WorkerExtension:
    """Methods added to vLLM's worker; called by name through collective_rpc."""

    def repack_lm_head(self) -> None:
        """Give the packed output layer the reloaded weights.

        vLLM's CPU build multiplies with a packed copy of each matrix. A reload re-packs layers that
        receive weights of their own; an output layer tied to the embedding receives none and would
        go on serving the old matrix. Repeating the packing is harmless elsewhere.
        """
        from vllm.config import set_current_vllm_config

        worker: Any = self
        with set_current_vllm_config(worker.vllm_config):
            for _, layer in worker.model_runner.get_model().named_modules():
                if type(layer).__name__ == "ParallelLMHead":
                    layer.quant_method.process_weights_after_loading(layer)


class VllmBackend:
    """The `Backend` of `worker.py` on vLLM.

    `config` has EngineConfig's keys and optionally `lora` (LoraConfig's names).
    """

    def __init__(self, config: Mapping[str, Any]):
        self.config = config
        self.max_model_len: int = config["max_model_len"]
        self._engine: Any = None
        self._weights: Path | None = None
        self._adapter: Any = None
        self._merged: tempfile.TemporaryDirectory[str] | None = None
        self._num_adapters = 0
        self._requests: dict[str, tuple[int, Request, list[int]]] = {}
        self._texts: dict[str, tuple[int, list[int], list[int]]] = {}

    def load(self, checkpoint_path: Path) -> dict[str, Any]:
        """Start on `checkpoint_path`, or put its weights in the place of the present ones."""
        from ouroloop.loop.engines.transformers_local import load_codec

        checkpoint = check_checkpoint(checkpoint_path)
        if checkpoint.is_adapter and not self.config.get("lora"):
            raise CheckpointError(
                f"{checkpoint.path} is a LoRA adapter, but the recipe has no peft section, so the"
                " engine has no adapter slot."
            )
        self.codec = load_codec(checkpoint, self.config)
        weights, adapter = self._weights_of(checkpoint)
        # An adapter on the base that is loaded already needs no weights swapped: vLLM keeps base
        # and adapters apart.
        if self._engine is None:
            self._start(checkpoint, weights)
        elif adapter is None or weights != self._weights:
            self._reload(weights)
        # After a whole checkpoint no adapter may be left over from before.
        self._adapter = adapter
        self._reset_prefix_cache()
        self._weights, self.version = weights, checkpoint.version
        return {"weight_version": self.version, "block_size": self._block_size()}

    def _weights_of(self, checkpoint: Checkpoint) -> tuple[Path, Any]:
        """(the folder of whole weights to load, vLLM's request for an adapter on them)."""
        if not checkpoint.is_adapter:
            return checkpoint.weights, None
        from vllm.platforms import current_platform

        if adapters.are_served(self.config, on_cpu=current_platform.is_cpu()):
            return checkpoint.weights, self._lora_request(checkpoint)
        from ouroloop.loop.engines import merging_local

        # Kept until the next one is loaded: vLLM reads config and weights from there.
        self._merged = tempfile.TemporaryDirectory(prefix="ouroloop-merged-")
        merging_local.merge(checkpoint, Path(self._merged.name), self.config["dtype"])
        return Path(self._merged.name), None

    def _start(self, checkpoint: Checkpoint, weights: Path) -> None:
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine

        on_cpu = current_platform.is_cpu()
        arguments = engine_arguments(self.config, checkpoint, on_cpu=on_cpu)
        arguments["model"] = str(weights)
        if on_cpu:
            from ouroloop.loop.engines import kernels_local

            sampler_local.install()
            kernels_local.install()
            arguments.setdefault("ir_op_priority", kernels_local.PRIORITY)
        scoring_local.install()
        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        # Unknown names in engine.extra end as TypeError here, impossible values as ValueError.
        except (ValueError, TypeError, RuntimeError) as error:
            raise EngineError(
                f"vLLM could not start on {weights}: {error}\nIts arguments were {arguments}"
            ) from error

    def _reload(self, weights: Path) -> None:
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(weights)})
        self._repack()

    def _repack(self) -> None:
        self._engine.collective_rpc("repack_lm_head")

    def _reset_prefix_cache(self) -> None:
        """Old keys and values must not serve new weights; a reload alone keeps them."""
        if not self._engine.reset_prefix_cache():
            raise EngineError(
                "vLLM refused to reset its prefix cache, as it does while requests run. Load only"
                " when nothing is in flight."
            )

    def _lora_request(self, checkpoint: Checkpoint) -> Any:
        """A fresh id for each load: vLLM goes on serving the first adapter seen under an id."""
        from vllm.lora.request import LoRARequest

        self._num_adapters += 1
        return LoRARequest(
            f"adapter-{self._num_adapters}", self._num_adapters, str(checkpoint.path)
        )

    def _block_size(self) -> int | None:
        cache = self._engine.vllm_config.cache_config
        return int(cache.block_size) if cache.enable_prefix_caching else None

    def submit(self, key: int, request: Request, prompt_ids: list[int]) -> None:
        """Hand a request to the scheduler with every sampling parameter pinned."""
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        params = SamplingParams(
            n=1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            max_tokens=sampling.max_tokens,
            min_tokens=0,
            seed=request.seed % 2**63,
            # Our own stop tokens alone, and their token in the answer: ignore_eos turns vLLM's own
            # reading of the checkpoint off, and the trainer learns the stop token.
            stop_token_ids=sorted(self.codec.stop_token_ids),
            ignore_eos=True,
            # 0 means: of the sampled token, and of no other.
            logprobs=0,
            flat_logprobs=True,
            # The codec makes the text, the same way for every engine.
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._requests[str(key)] = (key, request, prompt_ids)
        self._engine.add_request(
            str(key), tokens_input(prompt_ids), params, lora_request=self._adapter
        )

    def submit_text(self, key: int, prompt_ids: list[int], completion_ids: list[int]) -> None:
        """Hand a text to the scheduler as the prompt of one greedy token.

        It reads no prefix cache: of cached tokens vLLM has no log-probabilities.
        """
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=self._num_logprobs(),
            flat_logprobs=True,
            skip_reading_prefix_cache=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._texts[str(key)] = (key, prompt_ids, completion_ids)
        self._engine.add_request(
            str(key),
            tokens_input([*prompt_ids, *completion_ids]),
            params,
            lora_request=self._adapter,
        )

    def _num_logprobs(self) -> int:
        """Log-probabilities to ask for at each position: all where the engine's limit allows it."""
        model = self._engine.vllm_config.model_config
        vocabulary, most = int(model.get_vocab_size()), int(model.max_logprobs)
        return vocabulary if most == -1 or most >= vocabulary else min(most, TOP_TOKENS)

    @property
    def busy(self) -> bool:
        """Whether requests are waiting or running."""
        return bool(self._engine and self._engine.has_unfinished_requests())

    def step(self) -> list[tuple[int, Completion | Scored | EngineError]]:
        """One decoding step for all running requests; returns those that finished."""
        finished = [output for output in self._engine.step() if output.finished]
        return [
            self._scored(output) if output.request_id in self._texts else self._finish(output)
            for output in finished
        ]

    def _scored(self, output: Any) -> tuple[int, Scored | EngineError]:
        """The log-probabilities of the completion's positions, and their entropies."""
        key, prompt_ids, ids = self._texts.pop(output.request_id)
        rows = getattr(output.prompt_logprobs, "rows", None)
        # The first token of a text has no probability.
        if rows is None or len(rows) != len(prompt_ids) + len(ids) - 1:
            return key, EngineError(
                f"vLLM gave no log-probabilities for a text of {len(prompt_ids)} + {len(ids)}"
                " tokens"
            )
        exact = self._num_logprobs() == int(self._engine.vllm_config.model_config.get_vocab_size())
        # Each position's entries are the text's own token, then the most likely ones, the text's
        # own among them once more.
        at_T = rows[len(rows) - len(ids) :].astype(np.float64)
        logprobs = tuple(at_T[:, 0].tolist())
        entropies = tuple(entropy(top, whole=exact) for top in at_T[:, 1:])
        return key, Scored(tuple(ids), logprobs, entropies, exact, self.version)

    def _finish(self, output: Any) -> tuple[int, Completion | EngineError]:
        key, request, prompt_ids = self._requests.pop(output.request_id)
        answer = output.outputs[0]
        # vLLM aborts a request ("abort") when it cannot be scheduled; that is no short answer.
        if answer.finish_reason not in ("stop", "length"):
            return key, EngineError(
                f"request {request.id}: vLLM ended it with {answer.finish_reason!r}"
            )
        ids = list(answer.token_ids)
        logprobs = tuple(answer.logprobs.logprobs)
        if len(logprobs) != len(ids):
            return key, EngineError(
                f"request {request.id}: vLLM gave {len(logprobs)} log-probabilities for"
                f" {len(ids)} tokens"
            )
        return key, Completion(
            request_id=request.id,
            prompt_token_ids=tuple(prompt_ids),
            token_ids=tuple(ids),
            logprobs=logprobs,
            text=self.codec.text(prompt_ids, ids),
            finish_reason=answer.finish_reason,
            weight_version=self.version,
        )

    def close(self) -> None:
        """Stop vLLM's own processes, where it has any."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
        # The process ends without Python's own end, which would take the folder away.
        if self._merged is not None:
            self._merged.cleanup()


def entropy(logprobs: np.ndarray[Any, Any], whole: bool) -> float:
    """Entropy in nats of a distribution given by its largest log-probabilities or all (`whole`).

    What the largest leave over counts as one outcome. That is a lower bound: dividing the rest
    into its outcomes could only add.
    """
    p = np.exp(logprobs)
    parts = p[p > 0]
    rest = 0.0 if whole else 1.0 - float(p.sum())
    return float(-(parts * np.log(parts)).sum()) - (rest * math.log(rest) if rest > 0 else 0.0)


def engine_arguments(
    config: Mapping[str, Any], checkpoint: Checkpoint, *, on_cpu: bool
) -> dict[str, Any]:
    """The EngineArgs for an EngineConfig.

    `extra` wins over everything except what correctness needs.

    On the CPU build chunked prefill is off: a seeded request whose prompt is split over two steps
    crashes it ("CPU Generator does not use offset", vLLM 0.31). Blocks of 32 tokens (its default is
    128) let short prompts share their beginnings.
    """
    arguments: dict[str, Any] = {
        "model": str(checkpoint.weights),
        "tokenizer": str(checkpoint.tokenizer),
        "dtype": config.get("dtype", "float32"),
        "max_model_len": config["max_model_len"],
        "max_num_seqs": config["max_num_seqs"],
        "gpu_memory_utilization": config.get("gpu_memory_utilization", 0.85),
        "kv_cache_memory_bytes": config.get("kv_cache_memory_bytes"),
        "enforce_eager": True,  # graphs cost a minute at every start; extra turns them on
        # Asked for at most: a request for more is refused by vLLM.
        "max_logprobs": SMALL_VOCABULARY,
        "seed": 0,
    }
    if on_cpu:
        arguments |= {
            "block_size": 32,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(2048, config["max_model_len"]),
        }
    arguments |= adapters.engine_arguments(config, on_cpu=on_cpu)
    arguments |= dict(config.get("extra") or {})
    # What correctness needs, whatever engine.extra says: no sampling defaults of the checkpoint,
    # raw log-probabilities, no code from a checkpoint, no pickles.
    return arguments | {
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
        "trust_remote_code": False,
        "load_format": "safetensors",
        "worker_extension_cls": f"{__name__}.{WorkerExtension.__name__}",
        "disable_log_stats": True,
    }
