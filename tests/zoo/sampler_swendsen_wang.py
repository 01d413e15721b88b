from flowcut.joint.swendsen_wang import swendsen_wang
from tests.zoo.entry import SamplerEntry

entry = SamplerEntry("swendsen_wang", swendsen_wang, thin=20, attractive=True)
