"""The soft overlong punishment, with TRL's signature."""


class SoftOverlongPunishment:
    r"""
    Soft overlong punishment (DAPO Eq. 13, https://huggingface.co/papers/2503.14476).

    $$ R_{\text{length}}(y) = \begin{cases} 0, & |y| \le L_{\max} - L_{\text{cache}} \\
    \dfrac{(L_{\max} - L_{\text{cache}}) - |y|}{L_{\text{cache}}}, & L_{\max} - L_{\text{cache}} < |y| \le L_{\max} \\
    -1, & L_{\max} < |y| \end{cases} $$

    Args:
        max_completion_length (`int`):
            \( L_{\max} \), in tokens: the longest completion that is generated.
        soft_punish_cache (`int`):
            \( L_{\text{cache}} \), in tokens: the punishment grows over the last `soft_punish_cache` tokens before it.

    Raises:
        ValueError: if `soft_punish_cache` is not in `(0, max_completion_length]`.

    >>> SoftOverlongPunishment(max_completion_length=100, soft_punish_cache=20)(completion_ids=[[1] * 80, [1] * 90])
    [0.0, -0.5]
    """

    __name__ = "soft_overlong_punishment"

    def __init__(self, max_completion_length: int, soft_punish_cache: int):
        if not 0 < soft_punish_cache <= max_completion_length:
            raise ValueError(
                f"`soft_punish_cache` is {soft_punish_cache} tokens, but it must be in (0, `max_completion_length`] = "
                f"(0, {max_completion_length}]."
            )
        self.max_completion_length = max_completion_length
        self.soft_punish_cache = soft_punish_cache

    def __call__(self, completion_ids: list[list[int]], **kwargs) -> list[float]:
        """Rewards of B lists of token ids, in [-1, 0]; further columns are ignored."""
        limits = self.max_completion_length, self.soft_punish_cache
        return [soft_overlong_punishment(len(ids), *limits) for ids in completion_ids]


def soft_overlong_punishment(length: int, max_completion_length: int, soft_punish_cache: int) -> float:
    """DAPO Eq. 13 for one completion of `length` tokens; all arguments in tokens."""
    if length > max_completion_length:
        return -1.0
    return min(0.0, (max_completion_length - soft_punish_cache - length) / soft_punish_cache)
