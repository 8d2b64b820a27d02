"""Two ways to teach decoding in one step by a stage-1 model: distribution matching, and consistency.

Both judge the receiver's estimates at gamma > 0. The teacher is the model that training began from.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from modules.codec import CodecOutput
from modules.diffusion_codec import Context, DiffusionCodec
from modules.noise import Draws


def teacher_context(teacher: DiffusionCodec, x_side: Tensor, draws: Draws, output: CodecOutput) -> Context:
    """What the file and the side image tell this model, without gradients."""
    with torch.no_grad():
        present = draws.uniform("side_dropout") >= teacher.side_dropout
        return teacher.context(output.y_hat.detach(), x_side, present, output.rate)


def gamma_of(codec: DiffusionCodec, draws: Draws) -> Tensor:
    """The gamma that the first task drew."""
    return torch.where(draws.uniform("gamma_zero") < codec.settings.start_fraction, 0.0, draws.uniform("gamma"))


class DistributionMatching(nn.Module):
    """DMD (Yin et al. 2024, arXiv 2311.18828 and 2405.14867): the estimate moves where the teacher's denoiser and one
    that is trained on estimates disagree about its noisy version."""

    def __init__(self, codec: DiffusionCodec, lr: float) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(codec).requires_grad_(False)
        self.fake = copy.deepcopy(codec).requires_grad_(False)
        self.fake.unet.requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.fake.unet.parameters(), lr=lr, betas=(0.0, 0.99))
        self.pending: list[Tensor] = []

    def forward(self, x_side: Tensor, draws: Draws, output: CodecOutput, gamma: Tensor) -> Tensor:
        """(B,) squared length of the step, in units of the distortion."""
        start = output.predictions[0]
        context = teacher_context(self.teacher, x_side, draws, output)
        estimate = 2 * start.x0 - 1
        with torch.no_grad():
            t = 0.1 + 0.8 * draws.uniform("dmd_t")
            one = torch.ones_like(t)
            noise = draws.normal("dmd_noise", tuple(estimate.shape[1:]))
            x_t = self.teacher.process.add_noise(estimate, noise, t)
            real = self.teacher._predict(x_t, t, one, output.rate, context)
            fake = self.fake._predict(x_t, t, one, output.rate, context)
            size = (estimate - real).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
            step = (fake - real) * size.mean() / size
            target = estimate - step
        # The fake denoiser learns on what the receiver makes now.
        x_t = x_t.detach()
        again = self.fake._predict(x_t, t, one, output.rate, context)
        *_, out = self.teacher._precondition(t, one)
        weight = (self.teacher.settings.data_std / out) ** 2
        judged = (gamma > 0).float()[:, None, None, None]
        self.pending.append((judged * weight * (again - estimate.detach()) ** 2).mean() * 100)
        return (estimate - target).square().mean((1, 2, 3)) / 4 * 255**2

    def learn(self) -> Tensor:
        loss = torch.stack(self.pending).mean()
        self.pending.clear()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Consistency(nn.Module):
    """Consistency distillation (Song et al. 2023, arXiv 2303.01469): the estimates at two neighbouring points of the
    teacher's trajectory are to agree, in pixels and in features."""

    def __init__(self, codec: DiffusionCodec, ema: DiffusionCodec, perceptual: nn.Module, intervals: int = 8) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(codec).requires_grad_(False)
        self.ema, self.perceptual, self.intervals = [ema], perceptual, intervals

    def forward(self, x_side: Tensor, draws: Draws, output: CodecOutput, codec: DiffusionCodec) -> Tensor:
        """(B,): distance of the estimate at t from that of the moving average at the next time, at gamma 1."""
        (ema,) = self.ema
        grid = torch.ceil(draws.uniform("cd_t") * self.intervals).clamp(min=2)
        t = torch.where(draws.uniform("cd_start") < 0.5, torch.ones_like(grid), grid / self.intervals)
        s, one = t - 1 / self.intervals, torch.ones_like(t)
        noise = draws.normal("cd_noise", tuple(x_side.shape[1:]))
        x = output.predictions[0].image
        x_t = codec.process.add_noise(2 * x - 1, noise, t)
        with torch.no_grad():
            of_teacher = teacher_context(self.teacher, x_side, draws, output)
            x0 = self.teacher._predict(x_t, t, one, output.rate, of_teacher).clamp(-1, 1)
            x_s = codec.process.add_noise(x0, codec.process.noise_from_x0(x_t, x0, t), s)
            of_ema = teacher_context(ema, x_side, draws, output)
            target = ((ema._predict(x_s, s, one, output.rate, of_ema) + 1) / 2).clamp(0, 1)
        present = draws.uniform("side_dropout") >= codec.side_dropout
        context = codec.context(output.y_hat.detach(), x_side, present, output.rate)
        estimate = (codec._predict(x_t, t, one, output.rate, context) + 1) / 2
        mse = (estimate - target).square().mean((1, 2, 3)) * 255**2
        return mse + 300 * self.perceptual(estimate.clamp(0, 1), target)
