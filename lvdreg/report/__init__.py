"""Results for people to look at: pages that open by double click, pictures from any side, turntables."""
